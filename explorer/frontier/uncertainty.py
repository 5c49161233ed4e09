"""The uncertainty of a mean over seeds, and of what is computed from it: Student's t, with a floor from the test set.

There are usually few seeds. Resampling three of them with replacement (the plain bootstrap over seeds) covers the true mean in
three of four cases where 95 of 100 are claimed. Resampled means are therefore drawn from the t distribution that the interval
is based on (parametric bootstrap). A test measures both coverages.

Seeds that agree say nothing about the test images, which all of them share: two equal accuracies have a standard error of 0.
The error of a mean accuracy is therefore never smaller than what the number of test images allows (`floored_error`). That
number says nothing of metrics that are no fraction of the images; their intervals are those of the seeds alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from explorer.spec.binomial import LEVEL, binomial_error

DRAWS = 2000
"""Number of resampled means; percentiles of a cost or a score then vary by less than the digits shown."""
Bounds = tuple[float, float]
"""Smallest and largest possible score; infinite where there is none."""
UNIT_INTERVAL: Bounds = (0.0, 1.0)
"""Bounds of an accuracy."""


def test_set_error(mean: ArrayLike, images: ArrayLike) -> NDArray[np.float64]:
    """Binomial standard error of accuracies that were measured on a number of test images; see `binomial_error`.

    Args:
        mean: (N,) accuracies in [0, 1], or scores of error rates in [-1, 0], whose error is that of the rates.
        images: (N,) numbers of test images; NaN if unknown.

    Returns:
        (N,); 0 where the number of images is unknown.
    """
    mean_N, images_N = np.abs(np.asarray(mean, float)), np.asarray(images, float)
    return np.where(np.isnan(images_N), 0.0, binomial_error(mean_N, images_N))


def floored_error(mean: ArrayLike, error: ArrayLike, seeds: ArrayLike, images: ArrayLike) -> NDArray[np.float64]:
    """Standard errors of means over seeds, raised where the 95 % interval would be narrower than the test set allows.

    All seeds are evaluated on the same images, so more seeds do not reduce the error of the test set. Half of an interval is at
    least 1.96 times `test_set_error`; the error returned is half of the interval over Student's t.

    Args:
        mean: (N,) mean accuracies.
        error: (N,) standard errors of the means over seeds; NaN for one seed.
        seeds: (N,) numbers of values behind each mean.
        images: (N,) numbers of test images; NaN if unknown. The error is then that of the seeds, and none if they agree
            exactly.

    Returns:
        (N,); NaN where there is no interval.
    """
    floor_N = stats.norm.ppf((1 + LEVEL) / 2) * test_set_error(mean, images) / students_t(seeds)
    floored_N = np.maximum(np.asarray(error, float), floor_N)
    return np.where(floored_N > 0, floored_N, np.nan)


def interval(
    mean: ArrayLike, error: ArrayLike, seeds: ArrayLike, bounds: Bounds = UNIT_INTERVAL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % confidence intervals of mean scores (Student's t); NaN for fewer than two seeds.

    Args:
        mean: (N,) mean scores.
        error: (N,) standard errors of the means.
        seeds: (N,) numbers of values behind each mean.
        bounds: smallest and largest possible score.

    Returns:
        Lower and upper bounds, (N,) each.
    """
    mean_N, half_N = np.asarray(mean, float), students_t(seeds) * np.asarray(error, float)
    return np.maximum(bounds[0], mean_N - half_N), np.minimum(bounds[1], mean_N + half_N)


def run_interval(
    mean: float, error: float, seeds: int, images: float = np.nan, bounds: Bounds = UNIT_INTERVAL
) -> tuple[float, float] | None:
    """The interval that contains the score of one more run with 95 % probability: Student's prediction interval.

    Args:
        mean: mean of the existing runs.
        error: standard error of the mean over seeds.
        seeds: number of existing runs.
        images: number of test images; NaN if unknown. Half of the interval is at least 1.96 times `test_set_error`.
        bounds: smallest and largest possible score.

    Returns:
        Lower and upper bound; `None` for fewer than two runs, and for runs that agree exactly if `images` is NaN.
    """
    if seeds < 2:
        return None
    floor = float(stats.norm.ppf((1 + LEVEL) / 2) * test_set_error(mean, images))
    half = max(float(students_t(seeds)) * error * (seeds + 1) ** 0.5, floor)
    if half == 0:
        return None
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def resampled_means(
    mean: ArrayLike, error: ArrayLike, seeds: ArrayLike, draws: int = DRAWS, bounds: Bounds = UNIT_INTERVAL
) -> NDArray[np.float64]:
    """Mean scores as other seeds could have given them; equal calls return equal numbers.

    Args:
        mean: (N,) mean scores.
        error: (N,) standard errors of the means.
        seeds: (N,) numbers of values behind each mean, at least two.
        draws: D, the number of resampled means.
        bounds: smallest and largest possible score.

    Returns:
        (D, N) within the bounds
    """
    mean_N, error_N, seeds_N = np.asarray(mean, float), np.asarray(error, float), np.asarray(seeds, int)
    deviations_DN = np.random.default_rng(0).standard_t(seeds_N - 1, size=(draws, len(mean_N)))
    return np.clip(mean_N + error_N * deviations_DN, *bounds)


def percentiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds of the middle 95 % of values; infinite values count as the largest.

    Args:
        values: (D,) or (D, M)

    Returns:
        (2,) or (2, M)
    """
    bounds = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return np.quantile(values, bounds, axis=0, method="nearest")


def students_t(seeds: ArrayLike) -> NDArray[np.float64]:
    """The two-sided quantile of Student's t for means of (N,) numbers of values; NaN below two."""
    return np.asarray(stats.t.ppf((1 + LEVEL) / 2, np.asarray(seeds, int) - 1), float)
