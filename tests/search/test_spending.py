"""Spending limits: how they are divided, what is charged, and that a search stays within them. Costs in full trainings."""

import pytest

from explorer import Budget, SearchSpace
from explorer.errors import InvalidInput
from explorer.ledger.spending import Charges, spending_status
from explorer.search.allocation import Rule, RungState, affordable_budgets, affordable_winners, divide
from explorer.search.priced_limit import priced_limit
from explorer.search.proposer import Status
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.spec.spending_limit import SpendingLimit
from explorer.sweep.driver import Sweep
from tests.ledger.test_ledger import make_record
from tests.search.test_search import finish

COSTS = (0.05, 0.1, 0.2, 0.4)
NEW = [RungState(cost=cost) for cost in COSTS]
RULE = Rule(winners=1, seeds=3)


def test_the_cheapest_useful_sweep_and_the_next_one_by_hand():
    # One budget: 3 staged and 2 baseline trials, 2 x 3 repeats. 11 x .05 = .55.
    # Two: 6 and 3 staged, 2 and 2 baseline trials, 6 and 6 repeats: .3 + .3 + .3 + .9 = 1.8.
    assert [affordable_budgets(limit, NEW, NEW, RULE) for limit in (0.549, 0.55, 1.79, 1.8)] == [0, 1, 1, 2]
    assert divide(0.549, NEW, NEW, RULE) is None
    assert divide(0.55, NEW, NEW, RULE) == ([3, 0, 0, 0], [2, 0, 0, 0])
    assert divide(1.8, NEW, NEW, RULE) == ([6, 3, 0, 0], [2, 2, 0, 0])
    # Two winners of each kind need 17 trials at the cheapest budget.
    assert [affordable_winners(limit, NEW, NEW, Rule(winners=2, seeds=3)) for limit in (0.5, 0.84, 0.85)] == [0, 1, 2]


def test_budgets_cost_the_same_and_repeats_are_reserved_by_hand():
    # Repeats at two budgets cost .9. Of 2.1, budgets may cost .85 each, and a third of it for baselines:
    # 17 x .05 + 8 x .1 + 5 x .05 + 2 x .1 = 2.1.
    assert divide(3.0, NEW, NEW, RULE) == ([17, 8, 0, 0], [5, 2, 0, 0])
    # Where only two baselines differ, staged trials get what is left: 2.1 - 2 x .05 - 2 x .1.
    few = [RungState(cost=cost, distinct=2) for cost in COSTS]
    staged, baseline = divide(3.0, NEW, few, RULE)
    assert baseline == [2, 2, 0, 0]
    assert sum(count * cost for count, cost in zip(staged, COSTS, strict=True)) == pytest.approx(1.8)


def test_repeats_that_began_are_kept_and_reopening_reserves_new_ones():
    staged = [RungState(cost=0.1, asked=5, repeats_left=1)]
    baseline = [RungState(cost=0.1, asked=2, repeats_left=0)]
    assert divide(0.1, staged, baseline, RULE) == ([5], [2])  # one repeat is left, and nothing for more trials
    assert divide(0.39, staged, baseline, RULE) == ([5], [2])  # one more trial may bring another winner, with three repeats
    assert divide(0.4, staged, baseline, RULE) == ([6], [2])
    assert divide(0.05, staged, baseline, RULE) is None


def test_what_is_new_is_charged_and_failed_attempts_are_spent():
    done = make_record("a")
    outcome = done.outcome.model_copy(update={"planned_flops": 25, "executed_flops": 10, "full_flops": 100})
    done = done.model_copy(update={"outcome": outcome})
    lost = done.model_copy(update={"outcome": None, "status": "failed", "failure": "lost", "plan": ""})
    lacking = lost.model_copy(update={"failure": "place"})
    shared = done.model_copy(update={"shared_with": "b"})
    grid = done.trial.schedule.grid

    def total(*records, attempts=(), has_store=True):
        charges = Charges({Budget(0.25): 0.25}, has_store)
        for attempt in attempts:
            charges.add_attempt(attempt)
        for record in records:
            charges.add(record)
        return pytest.approx(charges.spent)

    assert total(done) == 0.1  # the rest came from the stage store
    assert total(shared) == total(lacking) == 0
    assert total(lost) == 0.25  # not tried again: up to the whole budget
    # Tried again, it finds its own segments in the store: it is charged its plan, and the attempt a segment.
    assert total(done, attempts=[lost]) == 0.25 + 0.25 / grid
    assert total(done, attempts=[lost], has_store=False) == 0.1 + 0.25


def search_within(space: SearchSpace, limit: str, records=(), attempts=()) -> Search:
    space = space.with_search(spend=limit, repeat=1, repeat_seeds=1)
    return Search(space, records, (), spending=Spending(space, priced_limit(space), records, attempts))


def costing(trial, fraction, accuracy=0.5):
    """A record that executed a fraction of its budget."""
    record = finish(trial, accuracy)
    planned = int(trial.budget.amount * 1000)
    update = {"planned_flops": planned, "executed_flops": int(fraction * planned), "full_flops": 1000}
    return record.model_copy(update={"outcome": record.outcome.model_copy(update=update)})


def run(search: Search, fraction: float, stop_after: int = 1000) -> list:
    """One trial after the other. Each search trial executes a fraction of its budget; repeats, with fresh seeds, all of it."""
    records = []
    while len(records) < stop_after and not isinstance(trial := search.next(), Status):
        records.append(costing(trial, fraction if trial.phase == "search" else 1.0))
        search.finished(records[-1])
        assert search.spending.spent <= search.spending.limit
    return records


def test_within_a_limit_every_budget_is_repeated_with_the_fewest_seeds_of_a_list(space_file):
    # Both budgets need 6 + 2 trials of .25 and 3 + 2 of .5, and repeats of two kinds with one seed.
    space = SearchSpace.load(space_file).with_search(repeat=1, repeat_seeds=(4, 1))
    needed = 8 * 0.25 + 5 * 0.5 + 2 * 0.25 + 2 * 0.5
    for limit, budgets in ((needed / 0.99 + 0.01, 2), (needed / 0.99 - 0.01, 1)):
        planned = space.with_search(spend=f"{limit} trainings")
        search = Search(planned, spending=Spending(planned, priced_limit(planned)))
        assert len(search.allocated_space.budgets) == budgets
        assert search.allocated_space.search.repeat_seeds == 1
    assert "1 fresh seeds" in search.limit_lines()[0]


def test_what_sharing_saves_goes_to_more_trials_and_a_further_budget(space_file):
    space = SearchSpace.load(space_file)  # 25 % and 50 %; repeats of two kinds with one seed
    whole, half = search_within(space, "3 trainings"), search_within(space, "5.5 trainings")
    # Nothing is shared: 2.97 hold 11 trials of .25. Two budgets need 6 + 2 + 2 trials of .25 and 3 + 2 + 2 of .5: 6.
    records = run(whole, 1.0)
    assert {str(record.trial.budget) for record in records} == {"25%"}
    assert (len(records), whole.spending.spent) == (11, 2.75)
    assert sum(record.trial.phase == "repeat" for record in records) == 2
    assert whole.spent_lines()[0].startswith("2.75 of 3 full trainings spent, 0.25 left; a limit of ")
    assert "would add the budget 50%" in whole.spent_lines()[0]
    # Half of each search trial is shared: five of them save .625, and there is room for the second budget.
    assert half.spending.at_start[1].staged == 0
    records = run(half, 0.5)
    assert {str(record.trial.budget) for record in records} == {"25%", "50%"}
    assert 0.9 * 5.5 <= half.spending.spent <= 5.5
    assert sum(record.trial.phase == "repeat" for record in records) == 4
    assert half.planned == len(records)


def test_a_stopped_search_resumes_within_the_same_limit_and_a_larger_one_extends_it(space_file):
    space = SearchSpace.load(space_file)
    first = run(search_within(space, "3 trainings"), 0.5, stop_after=9)
    rest = run(search_within(space, "3 trainings", first), 0.5)
    assert 0.9 * 3 <= search_within(space, "3 trainings", first + rest).spending.spent <= 3
    done = search_within(space, "3 trainings", first + rest)
    assert done.next() is Status.FINISHED
    assert done.planned == len(first + rest)
    extended = search_within(space, "6 trainings", first + rest)
    more = run(extended, 0.5)
    assert more
    assert 0.9 * 6 <= extended.spending.spent <= 6
    ids = [record.trial.id for record in first + rest + more]
    assert len(set(ids)) == len(ids)


def test_a_failed_attempt_is_tried_again_only_if_the_repeats_still_fit(space_file):
    space = SearchSpace.load(space_file)
    space = SearchSpace.model_validate({**space.model_dump(), "store_gb": 0})
    search = search_within(space, "2 trainings")
    trials = [search.next() for _ in range(5)]  # 3 staged, 2 baseline: 1.25, and .5 for repeats
    assert isinstance(search.next(), Status)
    lost = finish(trials[0], None).model_copy(update={"failure": "lost", "plan": ""})
    assert search.affords_another_attempt(lost)  # 1.25 + .25 + .5 = 2
    search.attempt_failed(lost)
    assert not search.affords_another_attempt(lost)
    for trial in trials:
        search.finished(costing(trial, 1.0))
    repeats = run(search, 1.0)
    assert [record.trial.phase for record in repeats] == ["repeat", "repeat"]
    assert search.spending.spent == 2
    assert search.unaffordable_repeats == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3 trainings", "3 full trainings"),
        ("1 full training", "1 full training"),
        ("2e18 FLOPs", "2e+18 FLOPs"),
        ("40 GPU-hours", "40 GPU-hours"),
        ("$40", "$40"),
    ],
)
def test_limits_are_parsed_and_written(text, shown):
    limit = SpendingLimit.parse(text)
    assert str(limit) == shown
    assert SpendingLimit.parse(limit.exact) == limit


@pytest.mark.parametrize("text", ["25%", "0.5", "-1 trainings", "0 trainings", "three", "5 GMACs-epochs", "inf trainings"])
def test_limits_that_say_nothing_are_refused(text):
    with pytest.raises(InvalidInput, match=r"search\.spend"):
        SpendingLimit.parse(text)


def test_limits_become_full_trainings_only_in_their_own_currency():
    assert SpendingLimit.parse("30 FLOPs").full_trainings(10, "flops") == 3
    assert SpendingLimit.parse("2 GPU-hours").full_trainings(3600, "device_seconds") == 2
    assert SpendingLimit.parse("$10").full_trainings(1800, "device_seconds", price=2.5) == 8  # four hours
    for limit, currency in (("2 GPU-hours", "flops"), ("$10", "flops"), ("30 FLOPs", "device_seconds")):
        with pytest.raises(InvalidInput, match="currency"):
            SpendingLimit.parse(limit).full_trainings(1, currency, price=1)
    with pytest.raises(InvalidInput, match="set price"):
        SpendingLimit.parse("$10").full_trainings(1800, "device_seconds")


def test_bad_limits_of_a_sweep_are_refused_before_any_work(space_file, tmp_path):
    space = SearchSpace.load(space_file)
    # 3 + 2 trials at 25 % and 3 + 3 repeats, with 1 % kept for failed attempts: 2.75 / .99.
    with pytest.raises(
        InvalidInput, match=r"at least 2\.779 full trainings, the cheapest useful sweep: 3 staged and 2 baseline"
    ):
        Sweep(space, tmp_path, spend="2.7 trainings")
    with pytest.raises(InvalidInput, match=r"trials: 5: cannot be combined with a spending limit \(4 full trainings\)"):
        Sweep(space, tmp_path, spend="4 trainings", trials=5)
    with pytest.raises(InvalidInput, match=r"search\.spend: '2 GPU-hours': the sweep counts FLOPs"):
        Sweep(space, tmp_path, spend="2 GPU-hours")
    with pytest.raises(InvalidInput, match="trials: this key is required, unless spend gives a limit"):
        space.with_search(trials=None)
    assert space.with_search(spend="4 trainings", trials=None, baseline_trials=None).planned_trials == 0
    assert not any(tmp_path.glob("tiny/*"))


def test_status_of_a_limit_needs_the_ledger_alone(space_file):
    space = SearchSpace.load(space_file)
    records = [make_record("a")]
    outcome = records[0].outcome
    spent = outcome.executed_flops / outcome.full_flops
    status = spending_status(space, SpendingLimit.parse("3 trainings"), records, [])
    assert (status.limit, status.spent, status.left) == (3, spent, 3 - spent)
    limit = SpendingLimit(2.0 * outcome.full_flops, "FLOPs")
    assert spending_status(space, limit, records, []).limit == 2
    assert spending_status(space, limit, [], []).limit is None
    assert spending_status(space, None, records, []) is None
