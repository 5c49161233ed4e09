"""What the driver of a sweep says about itself while it runs: `status.json`. Only `explorer status` and reports read it."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from explorer.ledger.notes import read_note, write_note
from explorer.spec.base import Frozen
from explorer.spec.search_space import SearchSpace
from explorer.spec.spending_limit import SpendingLimitField

NAME = "status.json"
RENEW_SECONDS = 10.0
"""The driver renews its note this often, also when nothing has changed."""
SILENT_AFTER_SECONDS = 60.0
"""A driver whose note is older is not counted as alive."""


class RunningTrial(Frozen):
    """A trial that has a worker."""

    since: float
    """When it got its worker; seconds since the epoch."""
    worker: str = ""
    """Host and process; empty until the worker has answered."""
    segments: int = 0
    """Finished segments."""
    planned_segments: int | None = None
    """All segments of its plan; `None` until the first ones are finished."""
    cost: float = 0.0
    """Cost of the finished segments in full trainings."""


class DriverNote(Frozen):
    """The state of a driver."""

    host: str
    pid: int
    started: float
    """Seconds since the epoch."""
    updated: float
    """Seconds since the epoch."""
    ending: Literal["finished", "interrupted", "failed"] | None = None
    """How the driver ended; `None` while it runs, or if it was killed."""
    reason: str | None = None
    """Why the driver failed, in one line."""
    space: SearchSpace
    """The search space with the settings of this run."""
    planned: int
    """Number of trials of the whole sweep."""
    places: int
    """Number of trials that run side by side."""
    spend: SpendingLimitField | None = None
    """Spending limit of this run; `None` if there is none."""
    running: dict[str, RunningTrial] = {}
    """The trials that have a worker, by id."""

    def write(self, location: str) -> None:
        """Write the note into a sweep's folder.

        Raises:
            OSError: when the storage cannot be written.
        """
        write_note(location, NAME, self.model_dump(mode="json"))

    @classmethod
    def read(cls, location: str) -> DriverNote | None:
        """The note in a sweep's folder; `None` if there is none that this release can read.

        Raises:
            OSError: when the storage cannot be read.
        """
        content = read_note(location, NAME)
        try:
            return cls.model_validate(content) if content is not None else None
        except ValidationError:
            return None
