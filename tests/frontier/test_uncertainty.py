import math

import numpy as np
import pytest
from scipy import stats

from explorer.frontier.uncertainty import floored_error, interval, percentiles, resampled_means, run_interval
from explorer.frontier.uncertainty import test_set_error as binomial_error  # pytest would collect its name


def test_interval_by_hand():
    # Mean .9, standard deviation .02, three values: 4.303 * .02 / sqrt(3) = .0497
    low, high = interval([0.9, 0.995, 0.9], [0.011547, 0.005, math.nan], [3, 2, 1])
    assert (low[0], high[0]) == pytest.approx((0.8503, 0.9497), abs=1e-4)
    assert high[1] == 1.0
    assert math.isnan(low[2])
    assert math.isnan(high[2])


def test_the_error_of_a_test_set_by_hand():
    # 96 images and 4 added: p is 50 / 100, and sqrt(.5 * .5 / 100) is .05; of 96 correct images, sqrt(.98 * .02 / 100) is .014.
    assert binomial_error([0.5, 1.0, 0.5], [96, 96, math.nan]) == pytest.approx([0.05, 0.014, 0])


def test_equal_seeds_have_the_interval_of_the_test_set():
    # 1.96 * .05 on either side, whatever Student's t of two or five seeds.
    mean, seeds = [0.5, 0.5], [2, 5]
    low, high = interval(mean, floored_error(mean, [0, 0], seeds, [96, 96]), seeds)
    assert low == pytest.approx([0.402, 0.402], abs=1e-4)
    assert high == pytest.approx([0.598, 0.598], abs=1e-4)
    assert run_interval(0.5, 0, 2, 96) == pytest.approx((0.402, 0.598), abs=1e-4)
    assert run_interval(1.0, 0.0, 3) is None  # no fraction of images: their number says nothing


def test_the_floor_leaves_wider_intervals_and_single_seeds_as_they_are():
    # Three seeds with a standard error of .05: 4.303 * .05 is more than 1.96 * .05.
    assert floored_error([0.5], [0.05], [3], [96]) == pytest.approx([0.05])
    assert np.isnan(floored_error([0.5], [math.nan], [1], [96]))
    # A sweep of an earlier release does not say how many test images it has: equal seeds then give no interval at all.
    assert floored_error([0.5, 0.5], [0.01, 0], [3, 3], [math.nan] * 2) == pytest.approx([0.01, math.nan], nan_ok=True)


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
