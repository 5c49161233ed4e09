"""After how many trainings a sweep has paid for itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from explorer.frontier.comparison import FULL_TRAINING, FullTrainingMatch
from explorer.frontier.trials import charged

Payback = Literal["after", "never", "undecided", "unknown"]


@dataclass(frozen=True)
class BreakEven:
    """What finding out cost, and what it saves of each full training that is replaced by an equally good staged one."""

    search_cost: float
    """What all completed trials executed, in full trainings of the sweep's currency."""
    saving: float
    """1 minus the cost at which staged training matches full training; negative above the cost of full training, minus infinity
    if it is not reached, NaN if it is not known."""
    low: float
    high: float
    """Bounds of the 95 % interval of the saving; NaN without one."""
    predicted: bool = False
    """Whether the saving is predicted, since full training was not trained."""
    reused: int = 0
    """Number of trials whose results are of other sweeps, whose cost is not in the search cost."""

    @property
    def payback(self) -> Payback:
        """Whether the sweep pays: only what the whole interval of the saving says counts."""
        if math.isnan(self.saving):
            return "unknown"
        if self.low > 1 - FULL_TRAINING:
            return "after"
        return "never" if self.high <= 1 - FULL_TRAINING else "undecided"

    @property
    def trainings(self) -> float:
        """Number of trainings, at the estimated saving, whose savings are the search cost; infinite if there is no saving."""
        return self.search_cost / self.saving if self.saving > 0 else math.inf

    @property
    def trainings_interval(self) -> tuple[float, float]:
        """The 95 % interval of `trainings`: at the largest and at the smallest saving."""
        fewest, most = (self.search_cost / saving if saving > 0 else math.inf for saving in (self.high, self.low))
        return fewest, most


def is_unexplored(match: FullTrainingMatch) -> bool:
    """Whether staged training does not reach full training where it was measured, but was not measured up to its cost."""
    return math.isinf(match.match.cost) and match.measured[1] < FULL_TRAINING


def break_even(trials: pd.DataFrame, match: FullTrainingMatch | None) -> BreakEven:
    """Compare the cost of a sweep with what it saves.

    Args:
        trials: the table that `trials_frame` returns.
        match: the cost at which staged training matches full training; `None` if it is not known.
    """
    spent, reused = float(charged(trials).executed_cost.sum()), int(trials.reused_from.notna().sum())
    unknown = BreakEven(spent, math.nan, math.nan, math.nan, reused=reused)
    if match is None:
        return unknown
    cost = match.match
    if is_unexplored(match):
        return unknown
    return BreakEven(spent, 1 - cost.cost, 1 - cost.high, 1 - cost.low, match.predicted, reused)
