"""Ray Tune's side of the search: hands our trials to Tune and every result back to the search and the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from explorer.errors import InvalidInput
from explorer.frontier.trials import describe
from explorer.ledger import Ledger, Record, Trial
from explorer.search.prefix_sharing import SharedWork


class SweepSearcher(Searcher):
    """A Tune searcher around a search.

    Tune's trial ids are its own; a fresh one comes with every poll, so ours are kept beside them.

    Args:
        search: proposes trials.
        ledger: is told what starts, and gets every record that its worker could not write.
        on_record: called with every record.

    Attributes:
        refused: the error of a storage that took something no more; no trial is started after that.
        unwritten: records that the storage has not taken; each is tried again with every trial that ends.
    """

    def __init__(self, search: SharedWork, ledger: Ledger, on_record: Callable[[Record], None]) -> None:
        super().__init__()
        self._search, self._ledger, self._on_record = search, ledger, on_record
        self._running: dict[str, tuple[Trial, float]] = {}
        self.refused: InvalidInput | None = None
        self.unwritten: list[Record] = []

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's own space, metric and mode play no part: the search has its own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """A trial's config; None for "not now"; FINISHED at the end."""
        if self.refused:
            return Searcher.FINISHED
        trial = self._search.next()
        if trial == "done":
            return Searcher.FINISHED
        if trial == "wait":
            return None
        assert isinstance(trial, Trial)
        try:
            self._ledger.start(trial)
        except InvalidInput as error:
            self.refused = error
            return Searcher.FINISHED
        self._running[trial_id] = (trial, time.time())
        # For loggers, what people ask for; for the worker, the trial.
        shown = trial.model_dump(include={"kind", "phase", "budget", "learning_rate", "batch_size", "seed"})
        return {"id": trial.id, **shown, "schedule": describe(trial.schedule), "trial": trial.model_dump_json()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take note of how far a running trial is."""
        if "segments" in result:
            self._search.progressed(self._running[trial_id][0].id, result["segments"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass a trial's record on, or make one for a trial that left none."""
        trial, started = self._running.pop(trial_id)
        if result and "record" in result and not error:
            record = Record.model_validate_json(result["record"])
        else:
            record = Record(
                trial=trial,
                status="failed",
                reason="the worker process died (killed, out of memory, or its node was lost)",
                started=started,
                finished=time.time(),
                worker="unknown",
                device="unknown",
            )
        self.unwritten.append(record)
        self.write()
        self._search.finished(record)
        self._on_record(record)

    def write(self) -> None:
        """Write what the storage has not taken yet.

        Workers have written most records already; not on storage that they do not share with the driver, or that refused them.
        """
        left = []
        for record in self.unwritten:
            try:
                self._ledger.append(record)
            except InvalidInput as error:
                self.refused = error
                left.append(record)
        self.unwritten = left

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles the searcher for its own restore, which is never used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a sweep is rebuilt from its ledger."""
