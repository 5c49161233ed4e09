"""Ray Tune's side of the search: passes trials to Tune, and every result back to the search and the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from explorer.errors import InvalidInput
from explorer.frontier.trials import describe
from explorer.ledger import Ledger, Record, Trial
from explorer.search.dispatcher import Dispatcher
from explorer.search.proposer import Status

TRIAL, RECORD = "trial", "record"
"""Keys under which a trial travels to its worker and its record comes back. Both travel as they are; Ray pickles them."""
LOST_WORKER = "the worker process died (killed, out of memory, or its node was lost)"


class SweepSearcher(Searcher):
    """A Tune searcher around a search.

    Tune has trial ids of its own, a fresh one with every poll, so the ids of the ledger are kept beside them.

    Args:
        dispatcher: hands out trials.
        ledger: is told what starts, and gets every record that no worker could write.
        on_record: called with every record.
        stop_reason: says why no more trials may start; `None` while they may.

    Attributes:
        refused: error of a storage that could not be written; no trial is started after it.
        unwritten: records that the storage has not taken. They are tried again with every trial that ends.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        ledger: Ledger,
        on_record: Callable[[Record], None],
        stop_reason: Callable[[], InvalidInput | None] = lambda: None,
    ) -> None:
        super().__init__()
        self._dispatcher, self._ledger, self._on_record, self._stop_reason = dispatcher, ledger, on_record, stop_reason
        self._running: dict[str, tuple[Trial, float]] = {}
        self.refused: InvalidInput | None = None
        self.unwritten: list[Record] = []

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's own space, metric and mode are not used: the search has its own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial; `None` when there is none now, FINISHED when there are no more."""
        if self.refused or self._stop_reason():
            return Searcher.FINISHED
        planned = self._dispatcher.next()
        self._keep_shared()
        if isinstance(planned, Status):
            return Searcher.FINISHED if planned is Status.FINISHED else None
        trial = planned.trial
        try:
            self._ledger.start(trial)
        except InvalidInput as error:
            self.refused = error
            return Searcher.FINISHED
        self._running[trial_id] = (trial, time.time())
        # Loggers show the settings; the worker takes the trial.
        shown = trial.model_dump(include={"kind", "phase", "budget", "learning_rate", "batch_size", "seed"})
        return {"id": trial.id, **shown, "schedule": describe(trial.schedule), TRIAL: trial}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note the progress of a running trial."""
        if "segments" in result:
            self._dispatcher.progressed(self._running[trial_id][0].id, result["segments"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass a trial's record on, or make one for a trial that left none."""
        trial, started = self._running.pop(trial_id)
        if result and RECORD in result and not error:
            record: Record = result[RECORD]
        else:
            record = Record(
                trial=trial,
                status="failed",
                reason=LOST_WORKER,
                started=started,
                finished=max(started, time.time()),
                worker="unknown",
                device="unknown",
            )
        self._keep(record)
        self._dispatcher.finished(record)
        self._keep_shared()

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
