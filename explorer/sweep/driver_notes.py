"""Keeps `status.json` up to date while a driver runs, from a thread of its own: slow storage holds up nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from explorer.ledger import Record, Trial
from explorer.ledger.driver_note import RENEW_SECONDS, DriverNote, RunningTrial
from explorer.search.search import Search
from explorer.sweep.trial_reports import PLANNED_SEGMENTS, POINTS, SEGMENTS, WORKER

MIN_SECONDS = 2.0
"""Shortest time between two writes."""
LAST_WRITE_SECONDS = 10.0
"""Time that the last write may take."""


class DriverNotes:
    """Writes the note of a driver: what runs, and that the driver is alive.

    Args:
        location: the sweep's folder, as path or URI.
        search: the search, which says what is planned.
        places: gives the number of trials that run side by side; a cluster may grow.
    """

    def __init__(self, location: str, search: Search, places: Callable[[], int]) -> None:
        now = time.time()
        self._location = location
        self._note = DriverNote(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now,
            updated=now,
            space=search.allocated_space,
            planned=search.planned,
            places=places(),
            spend=search.space.search.spend,
        )
        self._places, self._search = places, search
        self._running: dict[str, RunningTrial] = {}
        self._lock = threading.Lock()
        self._changed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="driver notes")

    def started(self, trial: Trial) -> None:
        """A trial has begun to run."""
        places = self._places()  # counted by the driver's thread alone
        with self._lock:
            self._running[trial.id] = RunningTrial(since=time.time())
            self._note = self._note.model_copy(update={"places": places})
        self._changed.set()

    def reported(self, trial: Trial, report: dict[str, Any]) -> None:
        """A running trial has sent a report."""
        with self._lock:
            before = self._running.get(trial.id) or RunningTrial(since=time.time())
            points = report.get(POINTS)
            self._running[trial.id] = RunningTrial(
                since=before.since,
                worker=report[WORKER],
                segments=report[SEGMENTS],
                planned_segments=report.get(PLANNED_SEGMENTS),
                cost=points[-1].metrics["cost"] if points else 0.0,
            )
        self._changed.set()

    def finished(self, record: Record) -> None:
        """A trial ended."""
        planned: dict[str, Any] = {"planned": self._search.planned}  # it falls when trials fail
        if self._search.spending:
            planned["space"] = self._search.allocated_space
        with self._lock:
            self._running.pop(record.trial.id, None)
            self._note = self._note.model_copy(update=planned)
        self._changed.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is None:
            self._note = self._note.model_copy(update={"ending": "finished"})
        elif isinstance(error, Exception):
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._note = self._note.model_copy(update={"ending": "failed", "reason": reason})
        else:
            self._note = self._note.model_copy(update={"ending": "interrupted"})
        self._ended.set()
        self._changed.set()
        self._thread.join(LAST_WRITE_SECONDS)

    def _keep(self) -> None:
        """Write the note when something has changed, and to show that the driver is alive."""
        while True:
            ended = self._ended.is_set()
            self._changed.clear()
            with self._lock:
                update = {"updated": time.time(), "running": dict(self._running)}
            with suppress(Exception):  # the next note may succeed; no result depends on it
                self._note.model_copy(update=update).write(self._location)
            if ended:
                return
            if self._changed.wait(RENEW_SECONDS):
                self._ended.wait(MIN_SECONDS)
