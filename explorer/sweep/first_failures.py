"""Stops a sweep in which nothing can succeed: the same failure again and again before any trial has succeeded."""

from __future__ import annotations

import re
from collections.abc import Iterable

from explorer.errors import InvalidInput
from explorer.ledger import Record
from explorer.spec.search_space import SearchSpace

MAX_EQUAL_FAILURES = 3
"""Number of equal failures in a row at the start of a run that stop the sweep."""


class FirstFailures:
    """Compares the failures of a run while no trial of the sweep has succeeded.

    Trials that diverged do not count: their settings may be to blame. For the same reason, running out of memory counts only at
    the smallest batch size of the search space.

    Args:
        space: the search space.
        location: the sweep's folder, for the message.
        records: what the ledger already holds.

    Attributes:
        stopped: why the sweep stops; `None` while it may go on.
    """

    def __init__(self, space: SearchSpace, location: str, records: Iterable[Record]) -> None:
        self._smallest_batch, self._location = min(space.search.batch_size), location
        self._succeeded = any(record.outcome for record in records)
        self._last, self._in_a_row = "", 0
        self.stopped: InvalidInput | None = None

    def add(self, record: Record) -> None:
        """Note how a trial ended."""
        self._succeeded = self._succeeded or (record.was_trained and record.outcome is not None)
        from_settings = record.failure == "memory" and record.trial.batch_size > self._smallest_batch
        if self._succeeded or not record.was_trained or record.diverged or from_settings:
            return
        reason = re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", f"{record.failure} {record.reason}")  # sizes, addresses and ids differ
        self._in_a_row = self._in_a_row + 1 if reason == self._last else 1
        self._last = reason
        if self._in_a_row == MAX_EQUAL_FAILURES:
            self.stopped = InvalidInput(
                "sweep",
                self._location,
                f"stopped, because no trial has succeeded and {MAX_EQUAL_FAILURES} failed in the same way: {record.reason}. "
                "The same command tries them again",
            )
