"""Ray Tune's side of the search: passes trials to Tune, and every result back to the search and the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.tune.search import Searcher

from explorer.errors import InvalidInput
from explorer.frontier.trials import describe
from explorer.ledger import Ledger, Record, Trial
from explorer.search.dispatcher import Dispatcher
from explorer.search.proposer import Status
from explorer.sweep.attempts import Attempts
from explorer.sweep.failures import reason_around
from explorer.sweep.placement import AVOIDED, node_at

TRIAL, RECORD, NODE = "trial", "record", "node_id"
"""Keys under which a trial travels to its worker, and its record and the id of its node come back. Ray pickles them."""


class SweepSearcher(Searcher):
    """A Tune searcher around a search.

    Tune has trial ids of its own, a fresh one with every poll, so the ids of the ledger are kept beside them.

    Args:
        dispatcher: hands out trials.
        ledger: is told what starts, and gets every record that no worker could write.
        on_record: called with every record.
        stop_reason: says why no more trials may start; `None` while they may.
        attempts: decides which failed trials are tried again.
        error_of: gives the text of the error in which one of Tune's trials ended, by Tune's id.
        limit: gives the number of trials that may be handed out at the same time.
        on_attempt: called with the record of every failed attempt at a trial that is tried again.

    Attributes:
        refused: error of a storage that could not be written; no trial is started after it.
        unwritten: records that the storage has not taken. They are tried again with every trial that ends.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        ledger: Ledger,
        on_record: Callable[[Record], None],
        stop_reason: Callable[[], InvalidInput | None],
        attempts: Attempts,
        error_of: Callable[[str], str],
        limit: Callable[[], int],
        on_attempt: Callable[[Record], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._dispatcher, self._ledger, self._on_record, self._stop_reason = dispatcher, ledger, on_record, stop_reason
        self._attempts, self._error_of, self._limit, self._on_attempt = attempts, error_of, limit, on_attempt
        self._running: dict[str, tuple[Trial, float]] = {}
        self._reported: dict[str, tuple[Record, str | None]] = {}
        self._again: list[Trial] = []
        self.refused: InvalidInput | None = None
        self.unwritten: list[Record] = []

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's own space, metric and mode are not used: the search has its own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial; `None` when there is none now, FINISHED when there are no more."""
        if self.refused or self._stop_reason():
            return Searcher.FINISHED
        if len(self._running) >= self._limit():
            return None
        if self._again:
            trial = self._again.pop(0)
        else:
            planned = self._dispatcher.next()
            self._keep_shared()
            if isinstance(planned, Status):
                # A trial that runs may have to be tried again, and Tune asks no more after FINISHED.
                return Searcher.FINISHED if planned is Status.FINISHED and not self._running else None
            trial = planned.trial
        try:
            self._ledger.start(trial)
        except InvalidInput as error:
            self.refused = error
            return Searcher.FINISHED
        self._running[trial_id] = (trial, time.time())
        # Loggers show the settings; the worker takes the trial.
        shown = trial.model_dump(include={"kind", "phase", "budget", "learning_rate", "batch_size", "seed"})
        config = {"id": trial.id, **shown, "schedule": describe(trial.schedule), TRIAL: trial}
        avoided = self._attempts.avoided(trial.id)
        return {**config, AVOIDED: list(avoided)} if avoided else config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note the progress of a running trial, and its record."""
        if RECORD in result:
            self._reported[trial_id] = (result[RECORD], result.get(NODE))
        elif "segments" in result:
            self._dispatcher.progressed(self._running[trial_id][0].id, result["segments"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Pass a trial's record on, or make one for a trial that left none; or let it be tried again."""
        if result:
            self.on_trial_result(trial_id, result)
        trial, started = self._running.pop(trial_id)
        text, reported = self._error_of(trial_id), self._reported.pop(trial_id, None)
        record, node = reported or self._after_process_ended(trial, started, text)
        if self._attempts.ended(record, node, around=reported is None and record.outcome is None):
            self._set_aside(record)
            return
        self._dispatcher.finished(record)
        self._keep(record)
        self._keep_shared()

    def _after_process_ended(self, trial: Trial, started: float, error: str) -> tuple[Record, str | None]:
        """The record of a trial whose process ended without a report, and the id of its node if it is known."""
        with suppress(InvalidInput):
            if written := self._ledger.record_of(trial.id):  # the process ended after its trial
                return written, None
        failure, reason, address = reason_around(error)
        record = Record(
            trial=trial,
            status="failed",
            reason=reason,
            failure=failure,
            started=started,
            finished=max(started, time.time()),
            worker=address or "unknown",
            device="unknown",
        )
        return record, node_at(address)

    def _set_aside(self, record: Record) -> None:
        """Keep the record of an attempt, and queue its trial."""
        self._again.append(record.trial)
        self._on_attempt(record)
        try:
            self._ledger.set_aside(record)
        except InvalidInput as error:
            self.refused = error

    def write(self) -> None:
        """Write the records that the storage has not taken yet.

        Workers have written most records already, but not on storage that they do not share with the driver or that refused.
        """
        left = []
        for record in self.unwritten:
            try:
                self._ledger.append(record)
            except InvalidInput as error:
                self.refused = error
                left.append(record)
        self.unwritten = left

    def _keep(self, record: Record) -> None:
        self.unwritten.append(record)
        self.write()
        self._on_record(record)

    def _keep_shared(self) -> None:
        for record in self._dispatcher.take_shared_records():
            self._keep(record)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles the searcher for its own restore, which is not used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the source of truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a sweep is rebuilt from its ledger."""
