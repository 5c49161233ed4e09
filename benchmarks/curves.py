"""Accuracies of the winners of a benchmark over their fresh seeds, and averages of the curves through them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from explorer import SearchSpace
from explorer.frontier import MetricCurve
from explorer.frontier.uncertainty import floored_error, interval, percentiles, resampled_means

_FRACTALS = SearchSpace.load(Path(__file__).parent / "methods" / "full.yaml").task.data.fractals
TEST_IMAGES = {"digits": 360, "fractals": _FRACTALS.classes * _FRACTALS.held_out, "fashion": 10_000}
"""Number of test images by data set, from which intervals have their floor; tests compare it with the data."""
POINTS = 200
"""Costs, evenly spaced over the logarithm, at which a curve is read for its average."""


class Average(NamedTuple):
    """An average accuracy, or a difference of two, with its 95 % interval; bounds are NaN if a mean behind it has one seed."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """In percentage points."""
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def over_seeds(runs: pd.DataFrame, by: Sequence[str], costs: Sequence[str], test_images: int) -> pd.DataFrame:
    """One row per group of runs that differ in their seed alone.

    Args:
        runs: one row per run; a column `test_correct` says which test images each classifies correctly.
        by: columns that name a group.
        costs: columns of which the mean is taken.
        test_images: number of images on which all runs were tested: no interval is narrower than these allow.

    Returns:
        `by` and `costs`; test_mean, test_error (with the floor of the test images), seed_error (without it), seeds, test_low,
        test_high (95 % interval, Student's t); learning_rate, batch_size and schedule; test_correct of the runs.
    """
    if "test_correct" not in runs:
        runs = runs.assign(test_correct=None)
    table = runs.groupby(list(by), sort=False, as_index=False).agg(
        **{cost: (cost, "mean") for cost in costs},
        test_mean=("test_accuracy", "mean"),
        seed_error=("test_accuracy", "sem"),
        seeds=("seed", "size"),
        learning_rate=("learning_rate", "first"),
        batch_size=("batch_size", "first"),
        schedule=("schedule", "first"),
        test_correct=("test_correct", tuple),
    )
    error = floored_error(table.test_mean, table.seed_error, table.seeds, np.full(len(table), test_images))
    low, high = interval(table.test_mean, error, table.seeds)
    return table.assign(test_error=error, test_low=low, test_high=high)


def curve(rows: pd.DataFrame, cost: str) -> MetricCurve:
    """The monotone curve through rows of `over_seeds`, over one of their costs."""
    return MetricCurve.through(rows.assign(cost=rows[cost]))


def common_range(curves: Iterable[MetricCurve]) -> tuple[float, float]:
    """Smallest and largest cost that all of the curves have; the first is the larger one if there is none."""
    curves = list(curves)
    return max(each.costs[0] for each in curves), min(each.costs[-1] for each in curves)


def average(of: MetricCurve, costs: tuple[float, float]) -> Average:
    """The accuracy of a curve, averaged over the logarithm of the cost between two costs that it has."""
    mean = float(_averages(of, of.means[None], costs)[0])
    if not of.has_interval:
        return Average(mean, np.nan, np.nan)
    return Average(mean, *percentiles(_averages(of, resampled_means(of.means, of.errors, of.seeds), costs)))


def difference(first: MetricCurve, second: MetricCurve, costs: tuple[float, float]) -> Average:
    """By how much the average of the first curve is above that of the second; both have intervals."""
    together = [np.append(getattr(first, name), getattr(second, name)) for name in ("means", "errors", "seeds")]
    draws = resampled_means(*together)  # in one call, so that the deviations of the two are independent
    of_first, of_second = draws[:, : len(first.means)], draws[:, len(first.means) :]
    means = _averages(first, first.means[None], costs) - _averages(second, second.means[None], costs)
    return Average(float(means[0]), *percentiles(_averages(first, of_first, costs) - _averages(second, of_second, costs)))


def _averages(of: MetricCurve, means_DN: NDArray[np.float64], costs: tuple[float, float]) -> NDArray[np.float64]:
    """Averages of a curve through D sets of N means, (D,)."""
    grid = np.geomspace(*costs, POINTS)
    grid[[0, -1]] = costs
    read_DM = of.monotone(means_DN, grid)  # what `at` reads, for all sets in one call: five times as fast
    return np.trapezoid(read_DM, axis=1) / (POINTS - 1)
