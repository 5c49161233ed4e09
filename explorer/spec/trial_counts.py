"""Kinds of trials, and numbers of trials and of fresh seeds at each budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator

from explorer.spec.budget import Budget

Kind = Literal["staged", "baseline"]
KINDS: tuple[Kind, ...] = ("staged", "baseline")
"""Kinds of trials: staged schedules, and the baseline: the full model throughout."""
MIN_TRIALS = 3
"""Number of trials that a budget gets however expensive it is."""


def _counts(counts: int | tuple[int, ...]) -> int | tuple[int, ...]:
    numbers = counts if isinstance(counts, tuple) else (counts,)
    if min(numbers, default=0) < 0 or not any(numbers):
        raise ValueError("must be a whole number of at least 1, or a list with a number for each budget, not all of them 0")
    return counts


TrialCounts = Annotated[int | tuple[int, ...], AfterValidator(_counts)]
"""One for the cheapest budget, from which the others follow, or one for each. At budgets with 0 trials, nothing is trained."""


def _seeds(counts: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if min(counts if isinstance(counts, tuple) else (counts,), default=0) < 1:
        raise ValueError("must be a whole number of at least 1, or a list with such a number for each budget")
    return counts


SeedCounts = Annotated[int | tuple[int, ...], AfterValidator(_seeds)]
"""One number for all budgets, or one for each."""


def trials_at(counts: int | tuple[int, ...], budgets: Sequence[Budget], budget: Budget) -> int:
    """Number of trials at one of some budgets.

    A single number is that of the cheapest budget. The other budgets get trials for the same cost, as rungs of successive
    halving do (Jamieson and Talwalkar 2016), but at least `MIN_TRIALS`, or as many as the cheapest budget has.

    Args:
        counts: one number, or one for each budget.
        budgets: all budgets, from the cheapest up.
        budget: one of them.
    """
    if isinstance(counts, tuple):
        return counts[list(budgets).index(budget)]
    return max(round(counts * budgets[0].amount / budget.amount), min(counts, MIN_TRIALS))
