"""A sweep's trials in TensorBoard, MLflow and W&B: one run per trial, found again when the sweep is resumed.

The loggers live on the driver, each with a thread of its own. No trial and no driver waits for them, and their failures are
warnings. What a logger has not taken is logged by the next run of the sweep, from the ledger.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from explorer.frontier.trials import describe
from explorer.ledger import Record, SweepHeader, Trial
from explorer.ledger.notes import read_note, write_note
from explorer.loggers import BackgroundLogger, Ending, LoggingService, Point, RunDescription, open_service
from explorer.loggers.tensorboard_files import TensorBoardFiles
from explorer.search.dashboard import shown_parameters
from explorer.spec.loggers import LoggerName
from explorer.spec.search_space import SearchSpace
from explorer.sweep.learning_curve import learning_curve, results
from explorer.sweep.trial_reports import POINTS

TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files in a sweep's folder."""
DRAIN_SECONDS = 60.0
"""Time that the loggers have at the end of a sweep to log what is left."""
INTERRUPTED_DRAIN_SECONDS = 10.0
"""The same for a sweep that was interrupted."""


class SweepLoggers:
    """The loggers of one run of a sweep.

    Args:
        header: the sweep's header.
        space: the search space as it is now.
        location: the sweep's folder, as path or URI.
        records: what the ledger already holds. Records that a logger does not have yet are logged.
        say: prints a line.

    Raises:
        InvalidInput: when a logger is not set up or does not answer. A sweep that has records is resumed all the same; then
            this is a warning.
    """

    def __init__(
        self, header: SweepHeader, space: SearchSpace, location: str, records: Sequence[Record], say: Callable[[str], None]
    ) -> None:
        self._space, self._say = space, say
        self._sweep = header.name
        # Another sweep of the same name, in another folder or in the place of one that was removed, has other runs.
        self._digest = hashlib.sha256(f"{header.name} {header.created!r}".encode()).hexdigest()[:8]
        self._running: dict[str, Trial] = {}
        self._loggers: list[BackgroundLogger] = []
        folder = None if "://" in location else Path(location)
        if folder:
            files = TensorBoardFiles(folder / TENSORBOARD)
            delivered = _Delivered(location, f"{TENSORBOARD}/delivered.json")
            self._add("tensorboard", lambda: files, delivered, records)
        else:
            say("TensorBoard files are written to folders only, not to object stores")
        for name in space.loggers:
            connect: Callable[[], LoggingService] = partial(open_service, name, header.name, folder, "loggers")
            if not records:
                service = connect()

                def connect(service: LoggingService = service) -> LoggingService:
                    return service

            self._add(name, connect, _Delivered(location, f"loggers/{name}.json"), records)

    def _add(
        self,
        name: LoggerName | str,
        connect: Callable[[], LoggingService],
        delivered: _Delivered,
        records: Iterable[Record],
    ) -> None:
        def on_connected(service: LoggingService) -> None:
            delivered.read(service.destination)
            for record in records:
                if record.trial.id not in delivered.ids or (record.outcome and record.trial.id in delivered.failed):
                    self._end(logger, record)

        def on_delivered(run: RunDescription, ending: Ending) -> None:
            if ending.status != "killed":
                delivered.add(run.name, failed=ending.status == "failed")

        logger = BackgroundLogger(name, connect, self._say, on_connected, on_delivered)
        self._loggers.append(logger)

    def started(self, trial: Trial) -> None:
        """A trial has begun to run."""
        self.reported(trial, {})

    def reported(self, trial: Trial, report: dict[str, Any]) -> None:
        """A running trial has sent a report, perhaps with new points."""
        self._running[trial.id] = trial
        points: Sequence[Point] = report.get(POINTS, ())
        for logger in self._loggers:
            logger.log(self._run_of(trial), points)

    def finished(self, record: Record) -> None:
        """A trial ended."""
        self._running.pop(record.trial.id, None)
        for logger in self._loggers:
            self._end(logger, record)

    def __enter__(self) -> Self:
        for logger in self._loggers:
            logger.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Log what is left, within a limit; trials that still run are shown as killed."""
        for trial in self._running.values():
            for logger in self._loggers:
                logger.end(
                    self._run_of(trial), [], Ending("killed", "the sweep was interrupted; its next run resumes the trial")
                )
        limit = DRAIN_SECONDS if error is None else INTERRUPTED_DRAIN_SECONDS
        closing = [threading.Thread(target=self._close, args=(logger, limit), daemon=True) for logger in self._loggers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _close(self, logger: BackgroundLogger, limit_seconds: float) -> None:
        for line in logger.close(limit_seconds):
            self._say(line)
        if logger.missing:
            self._say(f"{logger.name}: the next run of this sweep logs them")

    def _end(self, logger: BackgroundLogger, record: Record) -> None:
        outcome = record.outcome
        ending = Ending("finished", results=results(outcome)) if outcome else Ending("failed", record.reason)
        logger.end(self._run_of(record.trial), learning_curve(record), ending)

    def _run_of(self, trial: Trial) -> RunDescription:
        parameters: dict[str, Any] = {
            "kind": trial.kind,
            "phase": trial.phase,
            "budget": str(trial.budget),
            "seed": trial.seed,
            "schedule": describe(trial.schedule),
            **shown_parameters(self._space.search, trial),
        }
        if trial.proxy is not None:
            parameters["proxy"] = trial.proxy
        tags = {"sweep": self._sweep, "trial": trial.id}
        return RunDescription(key=f"{trial.id}-{self._digest}", name=trial.id, parameters=parameters, tags=tags)


class _Delivered:
    """Which trials' results a logger has: a note in the sweep's folder, for a certain destination.

    Only the logger's thread uses it. If the note is lost, results are logged again, to the same runs.
    """

    def __init__(self, location: str, name: str) -> None:
        self._location, self._name = location, name
        self._destination = ""
        self.ids: set[str] = set()
        self.failed: set[str] = set()
        """Those whose last result was a failure: a completed try of the trial is to follow."""

    def read(self, destination: str) -> None:
        """Read the note. It counts only for the destination that it was written for."""
        self._destination = destination
        note = read_note(self._location, self._name) or {}
        if note.get("destination") == destination:
            self.ids, self.failed = set(note.get("trials", [])), set(note.get("failed", []))

    def add(self, trial_id: str, *, failed: bool) -> None:
        """Note that the result of a trial has been logged."""
        self.ids.add(trial_id)
        (self.failed.add if failed else self.failed.discard)(trial_id)
        note = {"destination": self._destination, "trials": sorted(self.ids), "failed": sorted(self.failed)}
        with suppress(OSError):
            write_note(self._location, self._name, note)
