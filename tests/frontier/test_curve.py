import math

import numpy as np
import pandas as pd
import pytest

from explorer import InvalidInput
from explorer.frontier import MetricCurve


def target(mean, error=math.nan, seeds=1):
    """A training to match."""
    return pd.Series({"test_mean": mean, "test_error": error, "seeds": seeds})


def curve(*points, error=math.nan, seeds=1):
    """From (cost, mean accuracy)."""
    columns = pd.DataFrame(points, columns=["cost", "test_mean"])
    return MetricCurve.through(columns.assign(test_error=error, seeds=seeds))


def test_between_two_budgets_it_is_straight_in_the_logarithm_of_cost():
    # sqrt(.25 * 1) = .5 lies half way between .25 and 1.
    expected = curve((1.0, 0.9), (0.25, 0.8)).at([0.25, 0.5, 1.0])
    assert expected.mean == pytest.approx([0.8, 0.85, 0.9])
    assert np.isnan(expected.low).all()


def test_it_never_falls_and_passes_through_rising_means():
    rising = curve((0.05, 0.5), (0.1, 0.8), (0.2, 0.82), (1.0, 0.9))
    means = rising.at(np.geomspace(0.05, 1, 200)).mean
    assert (np.diff(means) >= 0).all()
    assert rising.at([0.1, 0.2]).mean == pytest.approx([0.8, 0.82])
    # .84 after .86, as many seeds: both become .85.
    assert curve((0.1, 0.5), (0.2, 0.86), (0.4, 0.84)).at([0.2, 0.3, 0.4]).mean == pytest.approx([0.85] * 3)


def test_at_a_measured_budget_the_interval_is_students():
    # Far apart, so that the means never cross: 4.303 * .01 on either side.
    sure = curve((0.1, 0.3), (0.5, 0.6), (1.0, 0.9), error=0.01, seeds=3).at([0.5])
    assert sure.low[0] == pytest.approx(0.6 - 0.043, abs=0.005)
    assert sure.high[0] == pytest.approx(0.6 + 0.043, abs=0.005)


@pytest.mark.parametrize("cost", [0.04, 1.01, math.nan])
def test_beyond_the_measured_budgets_it_refuses(cost):
    with pytest.raises(InvalidInput, match=r"budget: .*: 5% to 100% of full training were measured"):
        curve((0.05, 0.5), (1.0, 0.9)).at([cost])


def test_cost_to_match_by_hand():
    staged = curve((0.25, 0.8), (0.5, 0.9))
    half_way = staged.cost_to_match(target(0.85))
    assert half_way.cost == pytest.approx(math.sqrt(0.25 * 0.5), rel=1e-3)
    assert math.isnan(half_way.low)
    assert staged.cost_to_match(target(0.7)).cost == 0.25  # already there
    assert staged.cost_to_match(target(0.9)).cost == pytest.approx(0.5)  # a tie counts
    assert staged.cost_to_match(target(0.95)).cost == math.inf
    assert curve((0.3, 0.8)).cost_to_match(target(0.8)).cost == 0.3
    assert curve((0.3, 0.8)).cost_to_match(target(0.81)).cost == math.inf


def test_the_interval_of_a_cost_to_match():
    # The slope is .1 a doubling. With an error of the target alone of .01 and very many seeds, 1.96 * .01 is .196 doublings.
    staged = curve((0.25, 0.8), (1.0, 1.0), error=1e-9, seeds=1000)
    match = staged.cost_to_match(target(0.9, 0.01, 1000))
    assert match.cost == pytest.approx(0.5, rel=1e-3)
    assert match.low == pytest.approx(0.5 * 2**-0.196, rel=0.02)
    assert match.high == pytest.approx(0.5 * 2**0.196, rel=0.02)
    # A target that may lie above everything measured.
    assert staged.cost_to_match(target(0.99, 0.02, 1000)).high == math.inf
    assert math.isnan(staged.cost_to_match(target(0.9)).high)
