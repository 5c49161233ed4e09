"""Staged against baseline training at equal measured time, which equal FLOPs do not imply."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from explorer.frontier.comparison import BudgetComparison, MeanScore, of_full_training
from explorer.frontier.curve import MetricCurve
from explorer.frontier.pareto import non_dominated
from explorer.frontier.trials import rows
from explorer.ledger import KINDS
from explorer.spec.budget import Budget


@dataclass(frozen=True)
class TimeComparison:
    """The best baseline of a budget, and the best staged training that takes no longer."""

    seconds: float
    """Mean training time of the baseline."""
    comparison: BudgetComparison
    """`budget` and `baseline` are those of the baseline, `staged` is interpolated at its time."""


def devices(trials: pd.DataFrame) -> list[str]:
    """The kinds of device on which trials were trained, sorted: times are compared where there is one.

    Args:
        trials: the table that `trials_frame` returns.
    """
    return sorted(trials[trials.status == "completed"].device.unique())


def measured_full_seconds(curves: pd.DataFrame) -> float:
    """Measured device-seconds of the baseline at full training; NaN if it was not trained.

    Args:
        curves: the table that `best_by_budget` returns; its times must be of one kind of device.
    """
    full = of_full_training(curves[curves.train_seconds > 0])
    return math.nan if full.empty else float(full.train_seconds.iloc[0])


def share_of_full_seconds(row: Any, full_seconds: float) -> float:
    """The device-seconds of a training over those of full training: planned ones, or else measured ones; NaN if not known.

    Args:
        row: of the table that `best_by_budget` returns.
        full_seconds: from `measured_full_seconds`.
    """
    planned = pd.notna(row.planned_seconds)
    return float(row.planned_seconds / row.full_seconds if planned else row.train_seconds / full_seconds)


def time_frontier(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of `best_by_budget` that are worth their time: no other of their kind is quicker and as good.

    Decided on validation images, so that the test scores of the rows stay unbiased.
    """
    timed = curves[curves.train_seconds > 0]
    of_kinds = [timed[timed.kind == kind] for kind in KINDS]
    return pd.concat([each[non_dominated(each.train_seconds, each.validation_mean)] for each in of_kinds])


def compare_at_equal_time(curves: pd.DataFrame) -> list[TimeComparison]:
    """Compare each baseline of the frontier over time with the staged training that takes no longer, from the shortest.

    The score of staged training is interpolated between its measured times, like `MetricCurve` between costs. Baselines
    that are quicker than any staged training are left out.

    Args:
        curves: the table that `best_by_budget` returns; its times must be of one kind of device.
    """
    kept = time_frontier(curves)
    staged, baselines = kept[kept.kind == "staged"], kept[kept.kind == "baseline"]
    if staged.empty:
        return []
    over_time = MetricCurve.through(staged.assign(cost=staged.train_seconds))
    seeds = int(staged.seeds.min())
    comparisons = []
    for row in rows(baselines.sort_values("train_seconds", kind="stable")):
        if row.train_seconds >= over_time.costs[0]:
            mean, low, high = (float(values[0]) for values in over_time.at(min(row.train_seconds, over_time.costs[-1])))
            baseline = MeanScore(float(row.test_mean), float(row.test_low), float(row.test_high), int(row.seeds))
            budget = Budget.parse(row.budget)
            comparison = BudgetComparison(budget, MeanScore(mean, low, high, seeds), baseline)
            comparisons.append(TimeComparison(float(row.train_seconds), comparison))
    return comparisons
