"""Staged against baseline training at equal time, worked out by hand."""

import math

import pytest

from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.equal_time import compare_at_equal_time, measured_full_seconds
from explorer.report.panels.task import full_training_time
from tests.ledger.test_ledger import make_record


def record(name, kind, budget, accuracy, seconds, **changes):
    made = make_record(name, kind=kind, budget=budget, validation=accuracy, test=accuracy, **changes)
    return made.model_copy(update={"outcome": made.outcome.model_copy(update={"train_seconds": seconds})})


def test_the_staged_accuracy_is_interpolated_at_the_time_of_each_baseline():
    records = [
        record("s25", "staged", "25%", 0.8, 10.0),
        record("s100", "staged", "100%", 0.9, 40.0),
        record("b25", "baseline", "25%", 0.6, 5.0),  # quicker than any staged training
        record("b50", "baseline", "50%", 0.7, 20.0),
        record("b100", "baseline", "100%", 0.88, 40.0),
    ]
    found = compare_at_equal_time(best_by_budget(trials_frame(records)))
    # 20 s are half way between the logarithms of 10 and 40 s.
    assert [(str(each.comparison.budget), each.seconds) for each in found] == [("50%", 20), ("100%", 40)]
    assert [each.comparison.staged.mean for each in found] == pytest.approx([0.85, 0.9])
    assert [each.comparison.gain for each in found] == pytest.approx([0.15, 0.02])
    assert [each.comparison.verdict for each in found] == ["undecided", "undecided"]  # one seed


def test_only_trainings_that_are_worth_their_time_take_part():
    records = [
        record("s25", "staged", "25%", 0.8, 10.0),
        record("s50", "staged", "50%", 0.7, 30.0),  # slower and worse than the next one, which is the full model
        record("s100", "staged", "100%", 0.9, 20.0),
        record("b50", "baseline", "50%", 0.7, 20.0),  # as slow as the next one, and worse
        record("b100", "baseline", "100%", 0.9, 20.0),
        record("b200", "baseline", "200%", 0.95, 40.0),  # compared with the best staged training within this time
    ]
    found = compare_at_equal_time(best_by_budget(trials_frame(records)))
    assert [(each.seconds, each.comparison.staged.mean) for each in found] == [(20, 0.9), (40, 0.9)]


def test_intervals_decide_at_equal_time_too():
    records = []
    for kind, accuracy in (("staged", 0.9), ("baseline", 0.6)):
        records.append(record(kind, kind, "50%", accuracy, 20.0))
        for seed, step in enumerate((-0.001, 0.0, 0.001), start=1):
            records.append(record(f"{kind}-{seed}", kind, "50%", accuracy + step, 20.0, repeat_of=kind, seed=seed))
    (only,) = compare_at_equal_time(best_by_budget(trials_frame(records)))
    assert only.comparison.verdict == "ahead"


def test_without_staged_training_there_is_nothing_to_compare():
    assert compare_at_equal_time(best_by_budget(trials_frame([make_record(kind="baseline")]))) == []


def test_the_time_of_full_training_is_not_that_of_a_longer_one():
    records = [record("b50", "baseline", "50%", 0.7, 20.0), record("b200", "baseline", "200%", 0.9, 80.0)]
    trials = trials_frame(records)
    assert math.isnan(measured_full_seconds(best_by_budget(trials)))
    assert full_training_time(trials).endswith("(from baselines at 200%)")
    with_full = trials_frame([*records, record("b100", "baseline", "100%", 0.8, 42.0)])
    assert measured_full_seconds(best_by_budget(with_full)) == 42.0
    assert full_training_time(with_full).startswith("42 seconds on ")
