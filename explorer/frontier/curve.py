"""The metric as a function of cost between the measured budgets, and the cost at which a value is reached.

All values are scores, of which the higher one is better; see `MetricSpec.score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from explorer.errors import InvalidInput
from explorer.frontier.paired import resampled_together, shares_correct
from explorer.frontier.trials import metric_of
from explorer.frontier.uncertainty import UNIT_INTERVAL, Bounds, percentiles, resampled_means
from explorer.ledger.correct_images import CorrectImages

GRID_POINTS = 400
"""Costs, evenly spaced over the logarithm, between which the cost to match is interpolated."""


class Expected(NamedTuple):
    """Mean test scores at M costs with their 95 % intervals; bounds are NaN if a measured budget has one seed."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Match(NamedTuple):
    """The smallest cost at which a target is reached, a fraction of full training."""

    cost: float
    """Infinite if the target is not reached within the measured costs; the smallest of them if it is reached there already."""
    low: float
    high: float
    """Bounds of the 95 % interval; NaN if a mean behind it has one seed; infinite beyond the measured costs."""


@dataclass(frozen=True)
class MetricCurve:
    """The mean score of one kind of training between its measured budgets.

    A monotone cubic (PCHIP) over the logarithm of cost, through the measured means made non-decreasing by isotonic regression
    weighted by seeds. Its uncertainty is that of the means: the same curve is computed through means resampled from their
    t distributions. What happens between two budgets is not measured; the score is assumed to increase steadily.
    """

    costs: NDArray[np.float64]
    """(N,) increasing; fractions of full training."""
    means: NDArray[np.float64]
    """(N,) mean test scores."""
    errors: NDArray[np.float64]
    """(N,) standard errors of the means; NaN for one seed."""
    seeds: NDArray[np.int64]
    """(N,) numbers of runs behind the means."""
    bounds: Bounds = UNIT_INTERVAL
    """Smallest and largest possible score."""
    seed_errors: NDArray[np.float64] | None = None
    """(N,) standard errors over the seeds alone; `None` if unknown."""
    test_correct: tuple[Sequence[CorrectImages | None], ...] = ()
    """Which test images each run behind each of the N means classifies correctly; empty if unknown."""

    @classmethod
    def through(cls, points: pd.DataFrame) -> MetricCurve:
        """The curve through rows of `best_by_budget` of one kind; at least one row."""
        ordered = points.sort_values("cost").drop_duplicates("cost")
        costs, means, errors, seeds = (ordered[name].to_numpy() for name in ("cost", "test_mean", "test_error", "seeds"))
        of_seeds = ordered.seed_error.to_numpy(float) if "seed_error" in ordered else None
        test_correct = tuple(ordered.test_correct) if "test_correct" in ordered else ()
        return cls(costs, means, errors, seeds, metric_of(points).score_bounds, of_seeds, test_correct)

    def at(self, costs: ArrayLike) -> Expected:
        """The expected score at given costs.

        Args:
            costs: (M,) fractions of full training.

        Raises:
            InvalidInput: for a cost outside the measured range.
        """
        cost_M = np.atleast_1d(np.asarray(costs, float))
        smallest, largest = self.costs[0], self.costs[-1]
        for cost in cost_M[~((cost_M >= smallest) & (cost_M <= largest))]:
            measured = f"{100 * smallest:.4g}% to {100 * largest:.4g}% of full training were measured"
            raise InvalidInput("budget", f"{100 * cost:.4g}%", measured)
        mean_M = self.monotone(self.means[None], cost_M)[0]
        if not self.has_interval:
            return Expected(mean_M, np.full_like(mean_M, np.nan), np.full_like(mean_M, np.nan))
        return Expected(mean_M, *percentiles(self.monotone(self._resampled(self.means, self.errors, self.seeds), cost_M)))

    @property
    def has_interval(self) -> bool:
        """False if a mean is of one seed."""
        return not np.isnan(self.errors).any()

    def cost_to_match(self, target: pd.Series[Any]) -> Match:
        """The smallest cost at which this curve reaches a target: the mean score of another training.

        The interval is from comparisons image by image where all test results are recorded (`explorer.frontier.paired`). Else,
        the errors of curve and target count as independent.

        Args:
            target: a row of `best_by_budget`.
        """
        grid = np.geomspace(self.costs[0], self.costs[-1], GRID_POINTS)
        grid[-1] = self.costs[-1]

        def reached(means_DN: NDArray[np.float64], targets_D: NDArray[np.float64]) -> NDArray[np.float64]:
            return _first_cost(grid, self.monotone(means_DN, grid), targets_D)

        cost = float(reached(self.means[None], np.array([target.test_mean]))[0])
        if not self.has_interval or np.isnan(target.test_error):
            return Match(cost, np.nan, np.nan)
        # Curve and target are resampled in one call: their deviations are independent, but for those of the images.
        means, seeds = np.append(self.means, target.test_mean), np.append(self.seeds, target.seeds)
        shares = shares_correct([*self.test_correct, target.get("test_correct", ())]) if self.test_correct else None
        if shares is None or self.seed_errors is None:
            together = self._resampled(means, np.append(self.errors, target.test_error), seeds)
        else:
            together = resampled_together(means, np.append(self.seed_errors, target.seed_error), seeds, shares)
        low, high = percentiles(reached(together[:, :-1], together[:, -1]))
        return Match(cost, float(low), float(high))

    def _resampled(self, means: ArrayLike, errors: ArrayLike, seeds: ArrayLike) -> NDArray[np.float64]:
        return resampled_means(means, errors, seeds, bounds=self.bounds)

    def monotone(self, means_DN: NDArray[np.float64], cost_M: NDArray[np.float64]) -> NDArray[np.float64]:
        """Curves through D sets of N means, at M costs: (D, M)."""
        if len(self.costs) == 1:
            return np.repeat(means_DN, len(cost_M), axis=1)
        rising_DN = np.stack([isotonic_regression(means_N, weights=self.seeds).x for means_N in means_DN])
        return PchipInterpolator(np.log(self.costs), rising_DN, axis=1)(np.log(cost_M))


def _first_cost(
    grid_M: NDArray[np.float64], curves_DM: NDArray[np.float64], targets_D: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The cost at which each rising curve reaches its target, (D,); infinite if it does not."""
    reached_DM = curves_DM >= targets_D[:, None] - 1e-12
    first_D = reached_DM.argmax(axis=1)
    rows = np.arange(len(curves_DM))
    before_D = np.maximum(first_D - 1, 0)
    rise_D = curves_DM[rows, first_D] - curves_DM[rows, before_D]
    fraction_D = np.divide(targets_D - curves_DM[rows, before_D], rise_D, out=np.ones_like(rise_D), where=rise_D > 0)
    cost_D = grid_M[before_D] * (grid_M[first_D] / grid_M[before_D]) ** np.clip(fraction_D, 0, 1)
    return np.where(reached_DM.any(axis=1), cost_D, np.inf)
