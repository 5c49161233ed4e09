"""Ray Tune's side of the search: hands our trials to Tune and every result back to the search and the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from explorer.ledger import Ledger, Record, Trial
from explorer.sweep.search import Search


class SweepSearcher(Searcher):
    """A Tune searcher around `Search`.

    Tune's trial ids are its own; a fresh one comes with every poll, so ours are kept beside them.

    Args:
        search: proposes trials.
        ledger: gets a failed record for a trial whose worker died; workers write all other records.
        on_record: called with every record.
    """

    def __init__(self, search: Search, ledger: Ledger, on_record: Callable[[Record], None]) -> None:
        super().__init__()
        self._search, self._ledger, self._on_record = search, ledger, on_record
        self._running: dict[str, tuple[Trial, float]] = {}

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Tune's own space, metric and mode play no part: the search has its own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """A trial's config; None for "not now"; FINISHED at the end."""
        trial = self._search.next()
        if trial == "done":
            return Searcher.FINISHED
        if trial == "wait":
            return None
        assert isinstance(trial, Trial)
        self._running[trial_id] = (trial, time.time())
        return {"id": trial.id, "trial": trial.model_dump_json()}

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
        # The worker has written it already; on storage that it does not share with the driver, this does.
        self._ledger.append(record)
        self._search.finished(record)
        self._on_record(record)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles the searcher for its own restore, which is never used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a sweep is rebuilt from its ledger."""
