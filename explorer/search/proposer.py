"""What proposes trials, and what it answers when it has none to propose."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from explorer.ledger import Record, Trial


class Status(Enum):
    """Why there is no next trial."""

    WAIT = "wait"
    """Running trials decide what comes next."""
    FINISHED = "finished"
    """All trials have been proposed and have ended."""


class Proposer(Protocol):
    """Proposes trials and learns how they ended. Every proposal is reported back, by one of the last two methods."""

    @property
    def planned(self) -> int:
        """Number of trials of the whole sweep."""

    def next(self) -> Trial | Status:
        """The next trial, or why there is none."""

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended. Its training may have been that of a trial of another kind."""

    def deduplicated(self, trial: Trial, record: Record) -> None:
        """Learn that a proposal is the same training as an earlier trial of its own kind and budget.

        Args:
            trial: the proposal, which does not count as a trial.
            record: of the earlier trial.
        """
