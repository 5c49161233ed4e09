import math

import numpy as np
import pytest
from scipy import stats

from explorer.frontier.uncertainty import interval, percentiles, resampled_means


def test_interval_by_hand():
    # Mean .9, standard deviation .02, three values: 4.303 * .02 / sqrt(3) = .0497
    low, high = interval([0.9, 0.995, 0.9], [0.011547, 0.005, math.nan], [3, 2, 1])
    assert (low[0], high[0]) == pytest.approx((0.8503, 0.9497), abs=1e-4)
    assert high[1] == 1.0
    assert math.isnan(low[2])
    assert math.isnan(high[2])


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
