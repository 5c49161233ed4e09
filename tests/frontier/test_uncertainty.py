import math

import numpy as np
import pytest
from scipy import stats

from explorer.frontier.uncertainty import interval, percentiles, resampled_means, standard_error


def test_interval_by_hand():
    # Mean .9, standard deviation .02, three values: 4.303 * .02 / sqrt(3) = .0497
    assert interval([0.88, 0.9, 0.92]) == pytest.approx((0.8503, 0.9497), abs=1e-4)
    assert standard_error([0.88, 0.9, 0.92]) == pytest.approx(0.011547, abs=1e-6)
    assert interval([0.99, 1.0])[1] == 1.0
    assert all(math.isnan(bound) for bound in interval([0.9]))
    assert math.isnan(standard_error([0.9]))


def test_percentiles_of_values_with_infinite_ones():
    assert percentiles(np.arange(1001.0)).tolist() == [25, 975]
    assert percentiles(np.array([1.0] * 90 + [np.inf] * 10)).tolist() == [1, np.inf]


def test_resampled_means_cover_the_truth_with_three_seeds_where_the_plain_bootstrap_does_not():
    """Of 2,000 experiments with three seeds each: how often the true mean lies in the middle 95 %."""
    generator = np.random.default_rng(1)
    experiments_EN = generator.normal(0.5, 0.02, size=(2000, 3))
    means, errors = experiments_EN.mean(axis=1), stats.sem(experiments_EN, axis=1)
    low, high = percentiles(resampled_means(means, errors, np.full(2000, 3)))
    assert 0.94 < np.mean((low < 0.5) & (high > 0.5)) < 0.96
    picked_DN = generator.integers(0, 3, size=(2000, 3))
    low, high = percentiles(experiments_EN[:, picked_DN].mean(axis=2).T)
    assert np.mean((low < 0.5) & (high > 0.5)) < 0.8
