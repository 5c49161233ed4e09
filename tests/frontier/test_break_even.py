"""After how many trainings a sweep has paid, worked out by hand."""

import math

import pandas as pd
import pytest

from explorer.frontier.break_even import BreakEven, break_even
from explorer.frontier.comparison import FullTrainingMatch, MeanScore, predict_full_training_match
from explorer.frontier.curve import Match
from explorer.frontier.prediction import PredictedCurve
from explorer.report.headline import break_even_sentence, break_even_verdict
from tests.frontier.test_prediction import points
from tests.report.test_headline import sweep


def test_found_for_less_than_a_training():
    paid = BreakEven(0.8, 0.7, 0.6, 0.8)
    # .8 / .7 = 1.14 trainings; at savings of .8 and .6: 1 and 1.33.
    assert paid.payback == "after"
    assert paid.trainings == pytest.approx(1.143, abs=1e-3)
    assert paid.trainings_interval == pytest.approx((1.0, 4 / 3))
    assert break_even_sentence(paid) == "Found for 0.8 of a full training; saves 0.7 of each, and has paid after 2 trainings."
    assert break_even_verdict(paid) == (
        "2 trainings",
        "saving 0.7 of each; 95 % interval 1 training to 2 trainings",
    )


def test_trials_of_other_sweeps_are_said_beside_the_cost_that_they_are_not_part_of():
    paid = BreakEven(0.8, 0.7, 0.6, 0.8, reused=3)
    assert break_even_sentence(paid).startswith(
        "Found for 0.8 of a full training, with 3 trials reused from other sweeps; saves"
    )
    trials = pd.DataFrame({"executed_cost": [0.5, 0.0], "shared_with": [None, None], "reused_from": [None, "a of A"]})
    assert (break_even(trials, None).search_cost, break_even(trials, None).reused) == (0.5, 1)


def test_an_expensive_search_pays_late():
    paid = BreakEven(23.3, 0.81, 0.1, 0.9, predicted=True)
    # 23.3 / .81 = 28.8; 23.3 / .9 = 25.9; 23.3 / .1 = 233.
    assert break_even_sentence(paid) == (
        "Found for 23.3 full trainings; is predicted to save 0.81 of each, and has paid after 29 trainings."
    )
    assert break_even_verdict(paid)[1] == ("saving 0.81 of each, predicted; 95 % interval 26 trainings to 233 trainings")


def test_an_uncertain_saving_is_not_claimed():
    paid = BreakEven(23.3, 0.81, -math.inf, 0.9)
    assert break_even_sentence(paid) == "Found for 23.3 full trainings; what it saves of each is not decided."
    value, remark = break_even_verdict(paid)
    assert value == "undecided"
    assert remark == "saving 0.81 of each; 95 % interval 26 trainings to never"
    one_seed = BreakEven(23.3, 0.81, math.nan, math.nan)
    assert break_even_verdict(one_seed)[1].endswith("saving 0.81 of each; one seed, no interval")


def test_a_negative_saving_never_pays():
    dearer = BreakEven(2.0, -0.25, -0.5, -0.1)
    assert dearer.trainings == math.inf
    assert break_even_sentence(dearer) == "Found for 2.0 full trainings; it saves nothing of a full training, and never pays."
    assert break_even_verdict(dearer) == (
        "never",
        "staging saves nothing of a full training: being equally good costs 0.25 of a full training more",
    )
    level = BreakEven(2.0, 0.0005, -0.2, 0.0008)  # a match just below the cost of full training
    assert break_even_verdict(level) == ("never", "staging saves nothing of a full training")
    unreached = BreakEven(2.0, -math.inf, -math.inf, -math.inf)
    assert break_even_verdict(unreached) == ("never", "staging saves nothing of a full training")


def test_what_trials_share_is_paid_once():
    trials = pd.DataFrame(
        {"executed_cost": [0.5, 0.25, 0.0], "shared_with": [None, None, "a"], "reused_from": [None, None, None]}
    )
    target = MeanScore(0.9, 0.89, 0.91, 3)
    paid = break_even(trials, FullTrainingMatch(target, Match(0.4, 0.3, 0.5), (0.1, 1.0)))
    assert (paid.search_cost, paid.saving, paid.low, paid.high) == pytest.approx((0.75, 0.6, 0.5, 0.7))
    assert break_even(trials, None).payback == "unknown"
    unreached = Match(math.inf, math.inf, math.inf)
    assert break_even(trials, FullTrainingMatch(target, unreached, (0.1, 1.0))).payback == "never"
    assert break_even(trials, FullTrainingMatch(target, unreached, (0.1, 0.2))).payback == "unknown"  # not trained above 20 %


def test_a_sweep_by_hand():
    data = sweep(("staged", "25%", 0.80), ("staged", "100%", 0.96), ("baseline", "25%", 0.6), ("baseline", "100%", 0.88))
    # Four runs at each of two budgets and kinds: 8 * (.25 + 1) full trainings. The match at 50 % saves half of each.
    assert data.break_even.search_cost == pytest.approx(10)
    assert data.break_even.saving == pytest.approx(0.5, rel=1e-3)
    assert data.summary == (  # all trainings take one second
        f"{data.headline} Where the two can be compared at equal measured time, staging is ahead at 1 of 1 budget. "
        "Found for 10.0 full trainings; saves 0.5 of each, and has paid after 20 trainings."
    )


def test_staging_that_loses_everywhere_never_pays():
    data = sweep(("staged", "25%", 0.5), ("staged", "100%", 0.7), ("baseline", "25%", 0.6), ("baseline", "100%", 0.9))
    assert data.break_even.payback == "never"
    assert data.summary.endswith("Found for 10.0 full trainings; it saves nothing of a full training, and never pays.")


def test_cheap_budgets_predict_what_is_saved():
    """Baseline 90 % and staged 99 % at full training by their curves: the match is far below full training."""
    costs = (0.05, 0.1, 0.2)
    staged = PredictedCurve.through(points((0.86, 0.92, 0.955), costs))
    baseline = PredictedCurve.through(points((0.45, 0.58, 0.7), costs))
    found = predict_full_training_match({"staged": staged, "baseline": baseline})
    assert found.predicted
    assert found.certain
    assert found.target.mean == pytest.approx(baseline.at([1.0]).mean[0])
    assert 0.05 <= found.match.low <= found.match.cost <= found.match.high < 1
    level = predict_full_training_match({"staged": baseline, "baseline": baseline})
    assert not level.certain  # equal curves match at full training, give or take
    assert level.match.low < 1 < level.match.high
    assert predict_full_training_match({"staged": staged}) is None
    cheap = PredictedCurve.through(points((0.5, 0.6), (0.01, 0.02)))
    assert predict_full_training_match({"staged": cheap, "baseline": cheap}) is None  # full training is out of reach


def test_a_sweep_of_cheap_budgets_says_predicted():
    means = {"staged": (0.8, 0.9, 0.95), "baseline": (0.3, 0.42, 0.55)}
    data = sweep(
        *((kind, budget, mean) for kind in means for budget, mean in zip(("5%", "10%", "20%"), means[kind], strict=True))
    )
    assert data.match.predicted
    assert data.headline.startswith("Staging is predicted to match full training (")
    # Four runs at each budget and kind: 8 * .35.
    assert "Found for 2.8 full trainings; is predicted to save" in data.summary


def test_a_longer_training_is_not_full_training():
    """Budgets of 50 % and 200 %: full training is between the two, and is predicted."""
    data = sweep(("staged", "50%", 0.805), ("staged", "200%", 0.925), ("baseline", "50%", 0.705), ("baseline", "200%", 0.905))
    assert data.match.predicted
    assert 0.75 < data.match.target.mean < 0.87
    assert data.match.measured[0] == 0.5
    assert data.break_even.payback == "undecided"
    longer = sweep(*((kind, budget, 0.9) for kind in ("staged", "baseline") for budget in ("150%", "200%")))
    assert longer.match is None
    assert longer.break_even.payback == "unknown"
