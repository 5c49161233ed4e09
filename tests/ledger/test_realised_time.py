"""How closely trials met their plans in time."""

import pytest

from explorer.ledger import Record
from explorer.ledger.realised_time import realised_times, table_lines
from explorer.spec.time_spent import StageTime, TimeSpent
from tests.ledger.test_ledger import make_record


def timed(name: str, ratio: float, budget="25%", **changes) -> Record:
    """Two stages planned to take 4 and 6 s, a fifth of it input, and compilation for 1 s."""
    time = TimeSpent(steps=8 * ratio, input=2 * ratio, compilation=1.0)
    stages = tuple(
        StageTime(stage=number, steps=10, seconds=seconds * ratio, planned_seconds=seconds)
        for number, seconds in enumerate((4.0, 6.0))
    )
    record = make_record(name, budget=budget)
    outcome = record.outcome.model_copy(update={"time": time, "stage_times": stages})
    return record.model_copy(update={"outcome": outcome, **changes})


def test_trials_are_compared_with_their_plans_by_budget():
    records = [timed("a", 1.0), timed("b", 1.02), timed("c", 0.9), timed("d", 1.1, "50%"), timed("e", 3.0, shared_with="d")]
    quarter, half, everything = realised_times([*records, make_record("unmeasured")])
    assert (quarter.budget, quarter.trials, quarter.median) == ("25%", 3, 1.0)
    assert quarter.deviation_95 == pytest.approx(0.1)
    assert quarter.close == pytest.approx(2 / 3)
    assert quarter.input == pytest.approx(0.2)
    assert quarter.on_top["compilation"] == pytest.approx(3 / 29.2)
    assert (half.trials, half.median) == (1, pytest.approx(1.1))
    assert (everything.budget, everything.trials, everything.median) == ("all", 4, pytest.approx(1.01))
    heading, first, *_ = table_lines([quarter, half, everything])
    assert heading.split()[:3] == ["budget", "trials", "realised/planned"]
    assert first.split() == ["25%", "3", "1.000", "10.0%", "67%", "20.0%", "10.3%", "0.0%", "0.0%", "0.0%", "0.0%"]


def test_of_twenty_trials_one_may_be_far_from_its_plan():
    (_, everything) = realised_times([timed(str(number), 1.01) for number in range(19)] + [timed("far", 2.0)])
    assert everything.deviation_95 == pytest.approx(0.01)


def test_records_of_earlier_releases_have_no_times():
    assert realised_times([make_record("old")]) == []
    old = make_record("old").model_dump(mode="json")
    for name in ("time", "stage_times"):
        del old["outcome"][name]
    assert Record.model_validate(old) == make_record("old")
