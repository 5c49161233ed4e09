"""Accuracies of the winners of a benchmark over their fresh seeds, and the curves through them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from explorer.frontier import hypervolume
from explorer.frontier.uncertainty import interval, percentiles, resampled_means

DOUBLINGS = 4
"""Doublings of the budget from 6.25 to 100 %, by which hypervolumes are divided."""


def over_seeds(runs: pd.DataFrame, by: Sequence[str], costs: Sequence[str]) -> pd.DataFrame:
    """One row per group of runs that differ in their seed alone.

    Args:
        runs: one row per run.
        by: columns that name a group.
        costs: columns of which the mean is taken.

    Returns:
        `by` and `costs`; test_mean, test_error, seeds, test_low, test_high (95 % interval, Student's t); learning_rate,
        batch_size and schedule.
    """
    table = runs.groupby(list(by), sort=False, as_index=False).agg(
        **{cost: (cost, "mean") for cost in costs},
        test_mean=("test_accuracy", "mean"),
        test_error=("test_accuracy", "sem"),
        seeds=("seed", "size"),
        learning_rate=("learning_rate", "first"),
        batch_size=("batch_size", "first"),
        schedule=("schedule", "first"),
    )
    low, high = interval(table.test_mean, table.test_error, table.seeds)
    return table.assign(test_low=low, test_high=high)


def hypervolume_of(rows: pd.DataFrame, cost: str) -> tuple[float, float, float]:
    """Hypervolume of the means of one curve over log2 of a cost, from 1/16 of full training on, and its 95 % interval.

    Divided by `DOUBLINGS`, so that it is the average of the accuracy that is reached by each cost. What costs less than 1/16
    counts from there on: curves that begin below gain nothing by that.
    """
    logs = np.maximum(np.log2(rows[cost].to_numpy(float)), -DOUBLINGS)
    draws = resampled_means(rows.test_mean, rows.test_error, rows.seeds)
    low, high = percentiles(np.array([hypervolume(logs, means, (0.0, 0.0)) for means in draws]))
    return hypervolume(logs, rows.test_mean, (0.0, 0.0)) / DOUBLINGS, low / DOUBLINGS, high / DOUBLINGS
