"""Predictions: what is known of synthetic curves comes back, intervals hold what they claim, and what no law allows is refused."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from explorer import InvalidInput
from explorer.frontier.laws import LAWS, Law
from explorer.frontier.prediction import PredictedCurve, obstacle, predicted_or_obstacle
from explorer.spec.provenance import MAX_REACH

COSTS = (0.05, 0.1, 0.2, 0.4)


def points(means, costs=COSTS, seeds=3, seed_error=0.002, test_images=10_000):
    """Rows as `best_by_budget` returns, as far as predictions use them."""
    return pd.DataFrame(
        {
            "budget": [f"{100 * cost:g}%" for cost in costs],
            "cost": costs,
            "test_mean": means,
            "seeds": seeds,
            "seed_error": seed_error if seeds > 1 else math.nan,
            "test_images": test_images,
        }
    )


def curve_of(law: Law, costs, error=0.1, exponent=0.8, floor=0.05):
    """Accuracies by a law; `error` is that at the largest of `COSTS`."""
    x = np.asarray(costs) / COSTS[-1]
    return expit(law.logit(x, np.array([[error]]), np.array([[exponent]]), np.array([[floor * law.has_floor]])))[0]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_parameters_of_each_law_come_back(law):
    curve = PredictedCurve.through(points(curve_of(law, COSTS), test_images=1_000_000, seed_error=0.0005), [law])
    assert np.median(curve.draws.error) == pytest.approx(0.1, abs=0.01)
    assert np.median(curve.draws.exponent) == pytest.approx(0.8, rel=0.2)
    assert np.median(curve.draws.floor) == pytest.approx(0.05 * law.has_floor, abs=0.02)
    assert curve.effective_draws > 100


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_curve_of_each_law_is_predicted_to_a_few_points(law):
    curve = PredictedCurve.through(points(curve_of(law, COSTS)))
    between, twice = curve.at([0.14, 0.8]).mean
    expected = curve_of(law, [0.14, 0.8])
    assert between == pytest.approx(expected[0], abs=0.01)
    assert twice == pytest.approx(expected[1], abs=0.02)


def test_the_law_of_the_points_gets_weight_where_they_tell_laws_apart():
    law = next(law for law in LAWS if law.name == "exponential with floor")
    costs = (0.025, 0.05, 0.1, 0.2, 0.4)
    weights = PredictedCurve.through(points(curve_of(law, costs, exponent=2.5), costs)).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["exponential with floor"] > 3 * weights["power"]


def gompertz(x, at_largest, exponent, floor):
    """A curve that is none of the candidates: the accuracy is (1 - a) exp(-b exp(-k ln x)), as steep at the beginning."""
    b = np.log((1 - floor) / (1 - at_largest))
    return 1 - (1 - floor) * np.exp(-b * np.exp(-exponent * np.log(x)))


OUTSIDE = Law("Gompertz", "", True, gompertz)


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", [*(pytest.param(law, marks=pytest.mark.nightly) for law in LAWS), OUTSIDE], ids=lambda law: law.name
)
def test_intervals_hold_what_is_measured_later(law):
    """Of 30 sweeps over curves of each law, and of one that is no candidate: the means of three fresh seeds at 2x and 5x."""
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(30):
        error = expit(generator.normal(-1.5, 1))
        exponent = 0.8 * np.exp(generator.normal(0, 0.4))
        costs = (*COSTS, 0.8, 2.0)
        truth = curve_of(law, costs, error, exponent, error * generator.uniform())
        deviation = 0.1 * truth * (1 - truth)  # of one run, .1 in the logit
        runs = np.clip(generator.normal(truth, deviation, size=(3, len(costs))), 0, 1)
        means, errors = runs.mean(axis=0), runs.std(axis=0, ddof=1) / 3**0.5
        table = points(means, costs, test_images=2000).assign(seed_error=errors)
        predicted = predicted_or_obstacle(table[:4])
        if isinstance(predicted, str):  # as a power law whose error is above 1, which is clipped, at the cheaper budgets
            continue
        expected = predicted.at(costs[4:])
        inside += list((expected.low <= means[4:]) & (means[4:] <= expected.high))
    assert len(inside) > 40
    assert np.mean(inside) > 0.9


def test_intervals_are_those_of_the_trained_budgets_there_and_widen_away_from_them():
    curve = PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87)))
    expected = curve.at([0.1, 0.14, 0.2, 0.4, 0.8, 2.0, 4.0])
    width = expected.high - expected.low
    assert expected.mean[[0, 2, 3]] == pytest.approx([0.72, 0.81, 0.87], abs=0.01)
    assert width[1] > width[0]
    assert width[1] > width[2]
    assert (np.diff(width[3:]) > 0).all()
    assert (np.diff(expected.mean) > 0).all()


def test_uncertain_points_weaken_a_prediction():
    means = (0.6, 0.72, 0.81, 0.87)
    exact, vague = (PredictedCurve.through(points(means, seed_error=error)).at([0.8]) for error in (0.001, 0.03))
    assert (vague.high - vague.low)[0] > 1.3 * (exact.high - exact.low)[0]


def test_a_single_run_scatters_more_than_a_mean():
    curve = PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87), seed_error=0.02))
    run, mean = curve.at([0.3], runs=1), curve.at([0.3], runs=3)
    assert run.low[0] < mean.low[0]
    assert run.high[0] > mean.high[0]


def test_unrepeated_budgets_are_predicted_with_wider_intervals():
    repeated = PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87))).at([0.8])
    single = PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87), seeds=1)).at([0.8])
    assert (single.high - single.low)[0] > (repeated.high - repeated.low)[0]


def test_equal_calls_return_equal_numbers():
    first, second = (PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87))).at([0.3, 1.0]) for _ in range(2))
    assert [list(values) for values in first] == [list(values) for values in second]


def test_costs_out_of_reach_are_refused_in_one_line():
    curve = PredictedCurve.through(points((0.6, 0.72, 0.81, 0.87)))
    assert curve.reach == pytest.approx(0.4 * MAX_REACH)
    for cost in (0.04, 4.5):
        with pytest.raises(
            InvalidInput, match=r"only 5% to 400% of full training can be predicted: from the cheapest"
        ) as caught:
            curve.at([cost])
        assert "\n" not in str(caught.value)
    assert curve.at([0.0499, 4.01]).mean.shape == (2,)  # plans end a step below their budget


def test_too_few_budgets_are_said():
    assert obstacle(points((0.6,), (0.05,))) == "a prediction needs at least 2 trained budgets, and there is 1"
    assert obstacle(points((), ())) == "a prediction needs at least 2 trained budgets, and there are 0"
    with pytest.raises(InvalidInput, match="at least 2 trained budgets"):
        PredictedCurve.through(points((0.6,), (0.05,)))


def test_an_accuracy_that_falls_beyond_its_errors_has_no_law():
    assert obstacle(points((0.6, 0.8, 0.7, 0.75))) == (
        "the accuracy falls from 80.0% at 10% to 70.0% at 20%, which no law of error against cost allows"
    )
    assert obstacle(points((0.6, 0.8, 0.795, 0.81))) is None  # within the errors
    assert obstacle(points((0.978, 0.975, 0.97, 0.976), test_images=360)) is None


@pytest.mark.parametrize(
    ("means", "seed_error", "expected"),
    [
        ((0.60, 0.57, 0.62), 0.006, (0.754, 0.583, 0.972)),
        ((0.60, 0.66, 0.64), 0.006, (0.729, 0.601, 0.961)),
        ((0.90, 0.91, 0.905), 0.003, (0.914, 0.901, 0.958)),
    ],
)
def test_a_curve_that_dips_is_predicted_from_enough_draws(means, seed_error, expected):
    """Expected: 600,000 draws of each law from one wide t distribution, without adaptation, worth 18,000 independent ones."""
    curve = PredictedCurve.through(points(means, (0.05, 0.1, 0.2), seed_error=seed_error))
    assert curve.effective_draws > 5000
    assert [values[0] for values in curve.at([1.0])] == pytest.approx(expected, abs=0.015)


def test_nothing_is_predicted_from_a_handful_of_draws(monkeypatch):
    monkeypatch.setattr("explorer.frontier.posterior.ROUNDS", 1)
    reason = predicted_or_obstacle(points((0.6, 0.57, 0.62), (0.05, 0.1, 0.2), seed_error=0.006))
    expected = (
        r"too few random draws from the laws of error against cost fit the trained budgets: they are worth (\d+) independent "
        "ones, and an interval needs 500"
    )
    assert int(re.fullmatch(expected, reason)[1]) < 100
    monotone = points((0.6, 0.72, 0.81, 0.87))
    assert predicted_or_obstacle(monotone).at([0.8]).mean == PredictedCurve.through(monotone).at([0.8]).mean
    assert predicted_or_obstacle(points((0.6,), (0.05,))).startswith("a prediction needs at least 2 trained budgets")


def test_perfect_accuracies_and_chance_are_predicted_too():
    perfect = PredictedCurve.through(points((0.98, 1.0, 1.0, 1.0), seed_error=0.0, test_images=360)).at([1.0])
    assert 0.97 < perfect.low[0] < perfect.mean[0] <= perfect.high[0] <= 1
    chance = PredictedCurve.through(points((0.1, 0.1, 0.1, 0.11), test_images=360)).at([1.0])
    assert 0.05 < chance.low[0] < chance.high[0] < 1
    assert np.isfinite(logit(chance.mean)).all()
