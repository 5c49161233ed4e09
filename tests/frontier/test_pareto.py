import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.frontier import hypervolume, knee, non_dominated

NAN = math.nan


@pytest.mark.parametrize(
    ("cost", "accuracy", "kept"),
    [
        ([], [], []),
        ([0.5], [0.9], [True]),
        ([0.1, 0.5, 1.0], [0.5, 0.8, 0.9], [True, True, True]),
        ([0.1, 0.5, 1.0], [0.8, 0.8, 0.9], [True, False, True]),  # as accurate but more expensive
        ([0.5, 0.5], [0.8, 0.9], [False, True]),  # as expensive but less accurate
        ([0.5, 0.5], [0.9, 0.9], [True, True]),  # equal points are all kept
        ([1.0, 0.1], [0.7, 0.8], [False, True]),
        ([0.1, 0.2], [NAN, 0.5], [False, True]),
        ([NAN, 0.2], [0.9, 0.5], [False, True]),
    ],
)
def test_non_dominated_by_hand(cost, accuracy, kept):
    assert non_dominated(cost, accuracy).tolist() == kept


def test_hypervolume_by_hand():
    # Steps: .5 from .1 to .5, .8 from .5 to 1.
    assert hypervolume([0.1, 0.5], [0.5, 0.8]) == pytest.approx(0.4 * 0.5 + 0.5 * 0.8)
    assert hypervolume([0.1, 0.5, 0.6], [0.5, 0.8, 0.7]) == pytest.approx(0.6)  # a dominated point adds nothing
    assert hypervolume([0.5], [0.9], reference=(0.8, 0.1)) == pytest.approx(0.3 * 0.8)
    assert hypervolume([1.0, 2.0], [0.9, 0.95]) == 0  # at and beyond the reference cost
    assert hypervolume([], []) == 0
    assert hypervolume([0.2, NAN], [NAN, 0.4]) == 0


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(points)
def test_non_dominated_agrees_with_the_definition(points):
    cost, accuracy = [c for c, _ in points], [a for _, a in points]
    wanted = [not any((c <= pc and a >= pa) and (c < pc or a > pa) for c, a in points) for pc, pa in points]
    assert non_dominated(cost, accuracy).tolist() == wanted


@given(points.filter(bool))
def test_hypervolume_is_the_mean_of_the_best_accuracy(points):
    cost, accuracy = np.array(points).T / 5
    grid = (np.arange(5) + 0.5) / 5  # costs are multiples of 1/5: the step function is constant between them
    best = [max([a for c, a in zip(cost, accuracy, strict=True) if c <= x], default=0) for x in grid]
    assert hypervolume(cost, accuracy) == pytest.approx(np.mean(best))


def test_a_hundred_thousand_points():
    generator = np.random.default_rng(0)
    cost = generator.uniform(0.01, 1, 100_000)
    cloud, curve = generator.uniform(0, 1, 100_000), 1 - 0.009 / cost
    assert 1 <= non_dominated(cost, cloud).sum() < 100
    assert non_dominated(cost, curve).all()
    for accuracy in (cloud, curve):
        assert 0 < hypervolume(cost, accuracy) < 1
        assert non_dominated(cost, accuracy)[knee(cost, accuracy)]


def test_knee_by_hand():
    # In logarithms of cost .25, .5, 1 are 0, .5, 1; the accuracy is .8 of the way up at half: .3 above the line.
    assert knee([1.0, 0.25, 0.5], [0.9, 0.5, 0.82]) == 2
    assert knee([0.25, 0.5, 1.0], [0.5, 0.7, 0.9]) is None  # straight
    assert knee([0.25, 0.5, 1.0], [0.5, 0.6, 0.9]) is None  # bends the other way
    assert knee([0.25, 1.0], [0.5, 0.9]) is None
    assert knee([0.25, 0.4, 0.5, 1.0], [0.5, 0.3, 0.82, 0.9]) == 2  # a dominated point is ignored
    assert knee([0.25, NAN, 0.5, 1.0], [0.5, 0.9, 0.82, 0.9]) == 2
    assert knee([], []) is None
    assert knee([0.5, 0.5, 0.5], [0.9, 0.9, 0.9]) is None  # ties: one point
