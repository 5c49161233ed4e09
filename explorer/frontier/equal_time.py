"""Staged against baseline training at equal measured time, which equal FLOPs do not imply."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from explorer.frontier.comparison import BudgetComparison, MeanAccuracy
from explorer.frontier.curve import AccuracyCurve
from explorer.frontier.trials import rows
from explorer.spec.budget import Budget


@dataclass(frozen=True)
class TimeComparison:
    """The best baseline of a budget, and the staged training that takes as long."""

    seconds: float
    """Mean training time of the baseline."""
    comparison: BudgetComparison
    """`budget` and `baseline` are those of the baseline, `staged` is interpolated at its time."""


def compare_at_equal_time(curves: pd.DataFrame) -> list[TimeComparison]:
    """Compare each baseline with the staged training that takes the same measured time, from the shortest.

    The accuracy of staged training is interpolated between its measured times, like `AccuracyCurve` between costs. Baselines
    whose time lies beyond those of staged training are left out.

    Args:
        curves: the table that `best_by_budget` returns; its times must be of one kind of device.
    """
    staged = curves[(curves.kind == "staged") & (curves.train_seconds > 0)]
    if staged.empty:
        return []
    over_time = AccuracyCurve.through(staged.assign(cost=staged.train_seconds))
    seeds = int(staged.seeds.min())
    comparisons = []
    for row in rows(curves[curves.kind == "baseline"].sort_values("train_seconds", kind="stable")):
        if over_time.costs[0] <= row.train_seconds <= over_time.costs[-1]:
            mean, low, high = (float(values[0]) for values in over_time.at(row.train_seconds))
            baseline = MeanAccuracy(float(row.test_mean), float(row.test_low), float(row.test_high), int(row.seeds))
            budget = Budget(row.budget_amount, row.budget_unit)
            comparison = BudgetComparison(budget, MeanAccuracy(mean, low, high, seeds), baseline)
            comparisons.append(TimeComparison(float(row.train_seconds), comparison))
    return comparisons
