"""What the ledger tells of a sweep with proxies; expected values by hand."""

import pytest

from explorer import SearchSpace
from explorer.ledger import of_target
from explorer.ledger.time_left import seconds_left
from explorer.sweep.completeness import lacking
from explorer.sweep.learning_curve import learning_curve
from explorer.sweep.progress import SweepProgress
from tests.conftest import quiet
from tests.ledger.test_ledger import make_record


@pytest.fixture
def space(space_file) -> SearchSpace:
    """Four and three staged and one baseline trial at 25 and 50 %, and two and one on a proxy of a quarter of the images."""
    content = SearchSpace.load(space_file).model_dump()
    content["search"] |= {"trials": [4, 3], "baseline_trials": 1}
    return SearchSpace.model_validate({**content, "proxy": {"images": 0.25, "trials": [2, 1]}})


def on_proxy(number=0, budget="25%", cost=0.0625, seconds=2.0, **changes):
    record = make_record(f"proxy1-{budget}-staged-{number:03d}", budget=budget, finished=seconds, **changes)
    outcome = record.outcome.model_copy(update={"planned_flops": int(cost * 100_000), "train_seconds": seconds})
    trial = record.trial.model_copy(update={"proxy": 1})
    return record.model_copy(update={"trial": trial, "outcome": outcome})


def test_trials_of_proxies_are_planned(space):
    assert space.planned_trials == (4 + 3) + (1 + 1) + (2 + 1)


def test_time_left_is_by_the_cost_of_each_task(space):
    assert seconds_left(space, 12, []) is None
    # One of two trials at 25 % of the proxy took 2 s and cost 1/16 of a full training: a full training takes 32 s, and what is
    # left costs 1/16 + 2/16 on the proxy, 4 x .25 + 3 x .5 staged and .25 + .5 baseline.
    assert seconds_left(space, 12, [on_proxy()]) == pytest.approx(32 * (3 / 16 + 2.5 + 0.75))
    # A staged trial of the target says more about the target: 40 s per full training, for both kinds until a baseline is there.
    target = make_record(finished=10.0)
    target = target.model_copy(update={"outcome": target.outcome.model_copy(update={"train_seconds": 10.0})})
    left = seconds_left(space, 12, [on_proxy(), target])
    assert left == pytest.approx(32 * 3 / 16 + 40 * (2.25 + 0.75))


def test_before_a_proxy_is_trained_its_cost_is_that_of_its_images_and_epochs(space):
    target = make_record(finished=10.0)
    target = target.model_copy(update={"outcome": target.outcome.model_copy(update={"train_seconds": 10.0})})
    expected = 40 * (0.25 * (2 * 0.25 + 0.5) + 2.25 + 0.75)
    assert seconds_left(space, 12, [target]) == pytest.approx(expected)


def test_a_budget_with_trials_of_a_proxy_alone_lacks_its_own(space):
    records = [on_proxy(), make_record(kind="baseline")]
    assert of_target(records) == records[1:]
    assert lacking(space, records)[0] == "25%: no staged trial succeeded"


def test_the_learning_curve_of_a_proxy_ends_at_its_cost_in_full_trainings_of_the_target(space):
    record = on_proxy(cost=0.0625)
    changes = {"losses": (2.0, 1.0), "segment_ends": (0.5, 1.0)}
    stage = record.outcome.stages[0].model_copy(update={"flops": 6250})
    outcome = record.outcome.model_copy(update={**changes, "stages": (stage,)})
    points = learning_curve(record.model_copy(update={"outcome": outcome}))
    assert [point.metrics["cost"] for point in points] == pytest.approx([0.03125, 0.0625])


def test_progress_shows_proxies_in_rows_of_their_own(space):
    console = quiet()
    records = [on_proxy(validation=0.7), make_record(validation=0.6)]
    progress = SweepProgress(space, 12, 1, records, console)
    console.print(progress.table())
    rows = [line.split() for line in console.file.getvalue().splitlines()[2:]]
    assert rows[0] == ["proxy", "1,", "25%", "70.00%", "-", "1"]
    assert rows[2] == ["25%", "60.00%", "-", "1"]
    last = quiet()
    last.print(progress.last_table())
    assert "70.00%" not in last.file.getvalue()
