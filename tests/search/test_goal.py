"""A spending limit with proxies and a budget that a schedule is wanted for. Costs in full trainings, worked out by hand."""

import random
import re
from dataclasses import replace

import pytest

from explorer import Budget, InvalidInput, SearchSpace, Sweep
from explorer.ledger import KINDS, Ledger, Record, Trial
from explorer.search.priced_limit import PricedLimit, priced_limit
from explorer.search.proposal import neighbours, proxy_guesses, schedule_for
from explorer.search.proposer import Status
from explorer.search.proxy_allocation import proxy_trials, verified_trainings
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.spec.spending_limit import SpendingLimit
from explorer.training.task import Task
from tests.ledger.test_ledger import make_header, make_record
from tests.search.test_search import finish

PHASES = ("search", "repeat")
BUDGETS = ["2.5%", "5%", "10%", "25%", "50%"]


def goal_space(space_file, proxy=({"epochs": 0.25},), budgets=BUDGETS, **search) -> SearchSpace:
    content = SearchSpace.load(space_file).model_dump(mode="json")
    content["recipe"]["epochs"] = 20
    content["search"] |= {"repeat": 1, "repeat_seeds": 2, "spend": "1 trainings", "goal": "25%", **search}
    return SearchSpace.model_validate({**content, "budgets": list(budgets), "proxy": list(proxy)})


def spending_of(space: SearchSpace) -> Spending:
    space = space.as_planned().up_to_goal()
    return Spending(space, priced_limit(space))


def charged(record: Record, search: Search) -> Record:
    """The record of a trial that cost its whole budget."""
    trial = record.trial
    share = trial.budget.amount * (1 if trial.proxy is None else search.spending.priced.of_proxies[trial.proxy - 1])
    costs = {"planned_flops": round(share * 1e6), "executed_flops": round(share * 1e6), "full_flops": 10**6}
    return record.model_copy(update={"outcome": record.outcome.model_copy(update=costs)})


def test_proxies_get_a_fifth_of_the_limit_and_the_same_cost_each_by_hand():
    assert proxy_trials(1.0, 0.25, [1 / 16]) == [12]  # .2 / (.25 / 16) = 12.8
    assert proxy_trials(1.0, 0.25, [1 / 4]) == [3]  # .2 / .0625 = 3.2
    assert proxy_trials(1.0, 0.25, [1 / 2]) == [3]  # at least three, whatever they cost
    assert proxy_trials(2.0, 0.25, [1 / 16, 1 / 4]) == [12, 3]
    assert proxy_trials(100.0, 0.05, [0.01]) == [48]
    assert proxy_trials(1.0, 0.25, []) == []


def test_what_is_verified_fits_into_what_is_left_and_half_of_the_limit():
    assert [verified_trainings(left, 1.0, 0.25) for left in (-0.1, 0.2, 0.3, 0.9)] == [(0, 0), (0, 0), (1, 0), (1, 1)]
    assert verified_trainings(0.8, 1.5, 0.25) == (2, 1)
    assert verified_trainings(10.0, 10.0, 0.25) == (3, 1)


def test_one_full_training_by_hand(space_file):
    """Trials at 25 % of the proxy cost .0625, and the proxy gets a fifth of the limit: three trials, .1875.

    The cheapest budget needs 4 + 3 + 2 x 2 trials of .025: .275. Of .99, .5275 are left: two trainings at 25 %, one of them
    of the full model, and one more trial at the cheapest budget.
    """
    spending = spending_of(goal_space(space_file))
    assert [count for count, _ in spending.on_proxies] == [3]
    assert spending.on_proxies[0][1] == pytest.approx(0.1875, abs=0.002)
    assert spending.plan.verified == (1, 1)
    assert [(each.staged, each.baseline, each.repeats) for each in spending.at_start] == [
        (5, 3, 4),
        (0, 0, 0),
        (0, 0, 0),
        (1, 1, 0),
    ]
    assert str(spending.unsearched) == "25%"


def test_a_search_trains_what_the_proxy_chose_at_the_goal_and_stays_within_its_limit(space_file):
    space = goal_space(space_file).as_planned().up_to_goal()
    search = Search(space, spending=Spending(space, priced_limit(space)))
    accuracies, records = random.Random(0), []
    while not isinstance(trial := search.next(), Status):
        records.append(charged(finish(trial, accuracies.random()), search))
        search.finished(records[-1])
        assert search.spending.spent <= search.spending.limit
    assert search.next() is Status.FINISHED
    assert search.planned == len(records)
    assert search.spending.spent >= 0.9
    allocated = search.allocated_space
    assert SearchSpace.model_validate(allocated.model_dump(mode="json")) == allocated  # as a driver's note keeps it
    assert allocated.planned_trials == len(records)  # from which the time left is estimated
    at_goal = [record.trial for record in records if record.trial.proxy is None and str(record.trial.budget) == "25%"]
    assert [(trial.kind, trial.phase, trial.from_proxy) for trial in at_goal] == [
        ("staged", "search", "promoted"),
        ("baseline", "search", None),
    ]
    on_proxy = [record for record in records if record.trial.proxy and str(record.trial.budget) == "25%"]
    best = sorted(on_proxy, key=lambda record: -record.outcome.validation)
    assert at_goal[0].schedule == best[0].trial.schedule
    # With the learning rate of the best one of its kind at the only other budget of the target that was searched.
    for trial in at_goal:
        place = (None, trial.kind, "2.5%", "search")
        tuned = [r for r in records if (r.trial.proxy, r.trial.kind, str(r.trial.budget), r.trial.phase) == place]
        best_one = max(tuned, key=lambda record: record.outcome.validation).trial
        assert (trial.learning_rate, trial.batch_size) == (best_one.learning_rate, best_one.batch_size)

    resumed = Search(space, records, (), spending=Spending(space, priced_limit(space), records))
    assert resumed.next() is Status.FINISHED
    assert resumed.planned == len(records)


def test_a_sweep_that_is_resumed_for_a_larger_budget_stays_within_its_limit(space_file):
    whole, records, spent = goal_space(space_file), [], []
    for goal in ("10%", "25%"):
        space = whole.with_search(goal=goal).as_planned().up_to_goal()
        search = Search(space, records, spending=Spending(space, priced_limit(space), records))
        lines = search.limit_lines()
        while not isinstance(trial := search.next(), Status):
            records.append(charged(finish(trial, 0.5 + len(records) / 1000), search))
            search.finished(records[-1])
            assert search.spending.spent <= search.spending.limit
        spent.append(search.spending.spent)
        # Those at 10 % were trained once each, as the goal; now that it is a budget that is searched, the best are to be repeated.
        assert (search.planned - len(records), search.unaffordable_repeats) == ((0, 0) if goal == "10%" else (4, 4))
    # Three trials of the proxy at 25 % and two trainings there need .6875, which are not left.
    assert 1 - spent[0] < 0.0625
    assert spent[1] == spent[0]
    assert any(line.startswith("5 trials on proxies or at 25% do not fit into what is left of the limit") for line in lines)
    assert "25% is not searched: its accuracy is predicted from those below it" in lines
    # A larger limit has room for them.
    space = whole.with_search(goal="25%", spend="4 trainings").as_planned().up_to_goal()
    extended = Search(space, records, spending=Spending(space, priced_limit(space), records))
    assert not any("do not fit" in line for line in extended.limit_lines())


def test_another_goal_is_trained_before_what_was_for_the_first_one(space_file):
    """A limit was spent on repeats of the first goal's trial and on proxies of the second, which was never trained.

    The first sweep spends .99 at 25 %. With 1.8, .81 are left: a training at 50 % costs .5, and proxies at 50 % .125 each.
    """
    first = goal_space(space_file).as_planned().up_to_goal()
    records = run_charged(Search(first, spending=Spending(first, priced_limit(first))))
    spent = Spending(first, priced_limit(first), records).spent
    assert spent == pytest.approx(0.98, abs=0.02)

    def trained_within(limit: str) -> list[str]:
        space = goal_space(space_file, goal="50%", spend=limit).as_planned().up_to_goal()
        search = Search(space, records, (), spending=Spending(space, priced_limit(space), records))
        new = run_charged(search)
        assert search.spending.spent <= search.spending.limit
        return [str(record.trial.budget) + (f" proxy {record.trial.proxy}" if record.trial.proxy else "") for record in new]

    enough = trained_within("1.8 trainings")
    assert enough.count("50%") == 1
    assert enough.count("50% proxy 1") == 2
    little = trained_within("1.4 trainings")  # .42 are left: no training at 50 %, and so no proxies for it
    assert not [place for place in little if place.startswith("50%")]


def test_the_limit_that_is_named_for_a_goal_counts_what_is_spent(space_file, tmp_path):
    first = goal_space(space_file).as_planned().up_to_goal()
    records = run_charged(Search(first, spending=Spending(first, priced_limit(first))))
    ledger = Ledger(tmp_path / first.name)
    ledger.create(make_header(first.name).model_copy(update={"space": goal_space(space_file)}))
    for record in records:
        ledger.append(record)
    with pytest.raises(InvalidInput, match=r", of which 0\.9\d* full trainings are spent, would have") as refused:
        Sweep(goal_space(space_file, budgets=BUDGETS), tmp_path, goal="50%", spend="1 trainings")
    named = re.search(r"search\.spend of ([\d.]+) full trainings", str(refused.value)).group(1)
    space = goal_space(space_file, goal="50%", spend=f"{named} trainings").as_planned().up_to_goal()
    search = Search(space, records, (), spending=Spending(space, priced_limit(space), records))
    assert "50%" in [str(record.trial.budget) for record in run_charged(search) if record.trial.proxy is None]
    assert float(named) < 1.55  # .98 are spent, and a training at 50 % costs .5


def test_a_sweep_of_other_budgets_in_the_same_folder_is_refused_by_its_budgets(space_file, tmp_path):
    """What its records cost is not known in this space, and does not matter."""
    other = goal_space(space_file, budgets=["3%", "9%", "25%"])
    ledger = Ledger(tmp_path / other.name)
    ledger.create(make_header(other.name).model_copy(update={"space": other}))
    lost = make_record("lost", budget="9%", status="failed", outcome=None, reason="the node was lost", failure="lost")
    ledger.append(lost)
    ledger.append(
        make_record("of a proxy", budget="25%").model_copy(
            update={"trial": lost.trial.model_copy(update={"id": "of a proxy", "proxy": 3})}
        )
    )
    ledger.set_aside(lost)
    sweep = Sweep(goal_space(space_file), tmp_path)
    with pytest.raises(InvalidInput, match=r"budgets.*give this one another --name"):
        sweep.begun(Task(sweep.space.task).data.inventory, None)


def test_what_the_goal_needs_is_reserved_for_each_kind(space_file):
    """Three schedules were trained at 25 % within a larger limit; the full model still is to be."""
    large = goal_space(space_file, proxy=(), spend="10 trainings").as_planned().up_to_goal()
    trained = Search(large, spending=Spending(large, priced_limit(large)))
    rungs = {rung.kind: rung for rung in trained.rungs if str(rung.budget) == "25%"}
    rungs["staged"].asked = 5
    trained.spending.plan = replace(trained.spending.plan, verified=(2, 1), candidates=3)
    assert trained.spending.reserve(trained.rungs, [], 0.0, lambda rung: None) == pytest.approx(0.25)


def test_the_cheapest_budget_tunes_the_learning_rate_and_batch_size_of_what_the_proxy_chose(space_file):
    space = goal_space(space_file, learning_rate_grid=3, trials=None, baseline_trials=None).as_planned().up_to_goal()
    search, first = Search(space, spending=Spending(space, priced_limit(space))), []
    while not isinstance(trial := search.next(), Status):
        # Small batches are good, and then a high learning rate.
        search.finished(charged(finish(trial, 0.9 - trial.batch_size / 100 + 10 * trial.learning_rate), search))
        if trial.proxy is None and trial.kind == "staged" and trial.phase == "search" and str(trial.budget) == "2.5%":
            first.append(trial)
    assert [trial.from_proxy for trial in first] == ["promoted", "control", None, None, None]
    assert len({trial.schedule.model_dump_json() for trial in first if trial.from_proxy is None}) == 1
    assert [(trial.batch_size, trial.learning_rate) for trial in first] == [
        (32, 0.002),
        (32, 0.002),
        (16, 0.002),  # a smaller batch
        (16, 0.004),  # the best one so far with a higher learning rate
        (32, 0.004),  # a lower one was tried; no smaller batch, no higher rate
    ]


@pytest.mark.parametrize(
    ("setting", "values"),
    [("optimizer", ["adamw", "lion", "sgd", "muon"]), ("lr_schedule", ["linear", "rex", "cosine", "wsd"])],
)
@pytest.mark.parametrize("stopped_after", [None, 5])
def test_every_optimizer_and_learning_rate_schedule_is_tried_at_the_cheapest_budget(space_file, setting, values, stopped_after):
    """Of at least five staged trials there, two are schedules of the proxy, and three have another choice."""
    space = goal_space(space_file, spend="1.04 trainings", **{setting: values}).as_planned().up_to_goal()
    records, accuracies = [], random.Random(0)
    search = Search(space, spending=Spending(space, priced_limit(space)))
    assert [(search.spending.at_start[0].staged, search.spending.at_start[0].baseline)] == [(5, 4)]
    while not isinstance(trial := search.next(), Status):
        records.append(charged(finish(trial, accuracies.random()), search))
        search.finished(records[-1])
        if len(records) == stopped_after:
            search = Search(space, records, spending=Spending(space, priced_limit(space), records))
    for kind in KINDS:
        place = (None, kind, "2.5%", "search")
        tried = [r.trial for r in records if (r.trial.proxy, r.trial.kind, str(r.trial.budget), r.trial.phase) == place]
        chosen = [trial.optimizer.name if setting == "optimizer" else trial.lr_schedule for trial in tried]
        assert set(chosen) == set(values)
        if kind == "staged":
            assert [trial.from_proxy for trial in tried] == ["promoted", "control", None, None, None]
            assert chosen[:2] == values[:1] * 2
            best = max(records_of(records, tried[:2]), key=lambda record: record.outcome.validation).trial
            assert tried[2].schedule == best.schedule


def records_of(records: list[Record], trials: list[Trial]) -> list[Record]:
    return [record for record in records if record.trial in trials]


def test_known_schedules_do_not_take_the_training_at_the_goal(space_file):
    """The known schedule is the worst one wherever it is trained."""
    space = goal_space(space_file, budgets=["2.5%", "25%"], first=["paper"], proxy=({"epochs": 0.2},), spend="0.9 trainings")
    space = space.as_planned().up_to_goal()
    search, records = Search(space, spending=Spending(space, priced_limit(space))), []
    while not isinstance(trial := search.next(), Status):
        records.append(charged(finish(trial, 0.1 if trial.known_schedule else 0.5), search))
        search.finished(records[-1])
    known = {(r.trial.proxy, str(r.trial.budget)) for r in records if r.trial.known_schedule and r.trial.phase == "search"}
    assert known == {(1, "25%"), (None, "2.5%")}
    at_goal = [r.trial for r in records if r.trial.proxy is None and str(r.trial.budget) == "25%"]
    assert [(trial.kind, trial.from_proxy) for trial in at_goal][:1] == [("staged", "promoted")]
    assert "25% is not searched: the best schedule is trained there once" in "\n".join(search.limit_lines())


def test_what_is_trained_at_the_goal_is_said_in_words():
    assert Spending.at_goal(0, 0) == "its accuracy is predicted from those below it"
    assert Spending.at_goal(1, 0) == "the best schedule is trained there once"
    assert Spending.at_goal(3, 1) == "the best 3 schedules are trained there once, and so is the full model"
    assert Spending.at_goal(1, 1, 2) == "a winner of search.from is trained there once, and so is the full model"
    assert Spending.at_goal(3, 0, 1) == "a winner of search.from and the best 2 schedules are trained there once"
    assert Spending.at_goal(3, 0, 2) == "2 winners of search.from and the best schedule are trained there once"


def test_a_sweep_that_is_resumed_with_a_smaller_limit_still_tunes_at_the_cheapest_budget(space_file):
    """Within 4, eight trials of the proxy were trained, .5. Of a limit of 1, two trainings at 25 % would leave nothing."""

    def search_within(limit: str, records=()) -> Search:
        space = goal_space(space_file, spend=limit).as_planned().up_to_goal()
        return Search(space, records, spending=Spending(space, priced_limit(space), records))

    search, records = search_within("4 trainings"), []
    for _ in range(8):
        records.append(charged(finish(search.next(), 0.5), search))
        search.finished(records[-1])
    assert {record.trial.proxy for record in records} == {1}
    search = search_within("1 training", records)
    more = run_charged(search)
    tuned = [r.trial for r in more if (str(r.trial.budget), r.trial.phase, r.trial.kind) == ("2.5%", "search", "staged")]
    assert len(tuned) >= 4
    assert {record.trial.kind for record in more if record.trial.phase == "repeat"} == set(KINDS)
    assert sum(str(record.trial.budget) == "25%" for record in more) <= 1


def test_neighbours_of_settings_in_their_order(space_file):
    search = goal_space(space_file, batch_size=[8, 16, 32], learning_rate_grid=3).search
    around = neighbours(search, {"batch_size": 16, "learning_rate_step": 1, "heads_0": 0.5})
    assert around == [
        {"batch_size": 8, "learning_rate_step": 1, "heads_0": 0.5},
        {"batch_size": 16, "learning_rate_step": 2, "heads_0": 0.5},
        {"batch_size": 16, "learning_rate_step": 0, "heads_0": 0.5},
        {"batch_size": 32, "learning_rate_step": 1, "heads_0": 0.5},
    ]
    search = goal_space(space_file, batch_size=[32], learning_rate_grid=None).search
    around = neighbours(search, {"batch_size": 32, "learning_rate": 0.003})
    assert [each["learning_rate"] for each in around] == [0.004, 0.0015]  # at most what the space allows


def test_longer_early_stages_are_tried_on_proxies(space_file):
    space = goal_space(space_file)
    guesses = [schedule_for(space.search, "staged", each) for each in proxy_guesses(space.search, space.task.recipe)]
    shares = [[round(stage.share, 2) for stage in schedule.stages] for schedule in guesses]
    assert shares == [[0.3, 0.4, 0.3], [0.6, 0.4], [0.5, 0.4, 0.1], [0.8, 0.2]]
    assert [[stage.rates.heads for stage in schedule.stages] for schedule in guesses] == [
        [0.25, 0.5, 1],
        [0.25, 1],
        [0.25, 0.5, 1],
        [0.25, 1],
    ]


def test_numbers_of_trials_are_unknown_where_a_limit_decides(space_file):
    assert goal_space(space_file, trials=None, baseline_trials=None).planned_trials == 0
    assert goal_space(space_file, trials=4, baseline_trials=2).planned_trials == 0  # those are for an exhaustive plan


def test_where_there_is_room_the_goal_is_searched_as_any_other_budget(space_file):
    spending = spending_of(goal_space(space_file, spend="20 trainings"))
    assert spending.unsearched is None
    assert [trials.staged > 0 for trials in spending.at_start] == [True] * 4  # and nothing above 25 %
    assert spending_of(goal_space(space_file, proxy=(), budgets=["25%"], spend="5 trainings")).unsearched is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": "30%"}, r"search\.goal: 30% must be one of the budgets: 2\.5%, 5%, 10%, 25%, 50%"),
        ({"plan": "exhaustive", "trials": None}, r"trials: this key is required with plan: exhaustive"),
        (
            {"spend": "0.2 trainings"},
            r"search\.spend: '0\.2 full trainings': must be at least .*3 trials of each proxy at 25%",
        ),
        (
            {"goal": "50%", "spend": "0.6 trainings", "proxy": [{"epochs": 0.1}]},
            r"search\.goal: '50%': cannot be trained within 0\.6 full trainings, which have room to search 2\.5% alone",
        ),
        (
            {"goal": "100%", "spend": "0.9 trainings", "budgets": ["1%", "2%", "100%"], "proxy": []},
            r"search\.goal: '100%': is more than 10 times 2%, .*nothing can be said about it",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(space_file, tmp_path, changes, message):
    with pytest.raises((InvalidInput, ValueError), match=message) as refused:
        Sweep(goal_space(space_file, **changes), tmp_path)
    assert "Traceback" not in str(refused.value)
    if enough := re.search(r"search\.spend of (\S+) full trainings would have room", str(refused.value)):
        needed = float(enough[1])
        planned = spending_of(goal_space(space_file, **changes | {"spend": f"{needed} trainings"}))
        assert planned.plan.verified[0] == 1
        with pytest.raises(InvalidInput):  # it is the least one, but for rounding
            spending_of(goal_space(space_file, **changes | {"spend": f"{0.99 * needed} trainings"}))


@pytest.mark.parametrize("goal", ["5%", "10%", "25%"])
@pytest.mark.parametrize("proxy", [(), ({"epochs": 0.25},), ({"epochs": 0.1}, {"epochs": 0.25})])
def test_the_least_limit_with_a_goal_has_room_for_what_the_goal_needs(space_file, goal, proxy):
    with pytest.raises(InvalidInput, match=r"search\.spend: .*must be at least") as refused:
        spending_of(goal_space(space_file, proxy=proxy, goal=goal, spend="0.1 trainings"))
    least = float(re.search(r"must be at least (\S+) full training", str(refused.value))[1])
    planned = spending_of(goal_space(space_file, proxy=proxy, goal=goal, spend=f"{least} trainings"))
    assert planned.plan.verified == (1, 0)
    assert f"{goal} is not searched: the best schedule is trained there once" in str(refused.value)
    with pytest.raises(InvalidInput):
        spending_of(goal_space(space_file, proxy=proxy, goal=goal, spend=f"{0.99 * least} trainings"))


def test_the_least_limit_may_predict_the_goal_from_two_budgets(space_file):
    """8 + 3 + 2 x 2 trials of 2.5 % and 4 + 3 + 2 x 2 of 5 % cost .925, and a training of 50 % half of a limit of 1."""
    space = goal_space(space_file, proxy=(), goal="50%", spend="0.1 trainings")
    trials = r"8 staged and 3 baseline trials at 2\.5%, .* and 4 staged and 3 baseline trials at 5%, .* \(8 repeats\)"
    with pytest.raises(InvalidInput, match=rf"at least 0\.93\d* .*{trials}; 50% is not searched: its accuracy is predicted"):
        spending_of(space)


def test_a_training_at_the_goal_is_not_a_budget_that_is_searched(space_file):
    spending = spending_of(goal_space(space_file, budgets=["2.5%", "25%"]))
    assert [trials.staged for trials in spending.at_start] == [5, 1]
    assert "would search 25% too, with at least 4 staged and 3 baseline trials" in spending.larger_limit_at_start()


@pytest.mark.parametrize("goal", ["10%", "25%"])
def test_the_limit_that_is_said_to_add_a_budget_adds_it(space_file, goal):
    """Before the sweep begins, and when it has ended and is extended."""

    def search_within(limit: str, records=()) -> Search:
        space = goal_space(space_file, goal=goal, spend=limit).as_planned().up_to_goal()
        return Search(space, records, spending=Spending(space, priced_limit(space), records))

    def named(sentence: str) -> tuple[str, str]:
        found = re.search(r"a limit of (\S+ full trainings?) would (?:add the budget (\S+)|search (\S+) too),", sentence)
        return found[1], found[2] or found[3]

    first = search_within("1 training")
    limit, budget = named(first.spending.larger_limit_at_start())
    assert budget == "5%"  # the budget above the cheapest one, not what is trained once
    assert search_within(limit).spending.trials_at(Budget.parse(budget), "staged") >= 4
    less = SpendingLimit(0.97 * SpendingLimit.parse(limit).amount, "trainings")
    assert not search_within(less.exact).spending.trials_at(Budget.parse(budget), "staged")

    records = run_charged(first)
    limit, budget = named(first.spent_lines()[-1])
    assert budget == "5%"
    records += run_charged(search_within(limit, records))
    at_budget = [r for r in records if r.trial.proxy is None and str(r.trial.budget) == "5%"]
    assert {(r.trial.kind, r.trial.phase) for r in at_budget} == {(kind, phase) for kind in KINDS for phase in PHASES}


def run_charged(search: Search) -> list[Record]:
    """The records of a search with random accuracies whose trials cost their whole budgets."""
    accuracies, records = random.Random(0), []
    while not isinstance(trial := search.next(), Status):
        records.append(charged(finish(trial, accuracies.random()), search))
        search.finished(records[-1])
        assert search.spending.spent <= search.spending.limit
    return records


@pytest.mark.parametrize("relative", [(0.02,), (0.05,), (0.02, 0.5), (0.01, 0.03, 0.4)])
def test_the_least_limit_that_is_named_is_enough(space_file, relative):
    """More trials of a proxy come with a larger limit, so that just above one that is enough there may be one that is not."""
    space = goal_space(space_file, proxy=[{"epochs": 0.5}] * len(relative), goal=None, spend="0.01 trainings")
    costs = priced_limit(space).costs
    with pytest.raises(InvalidInput) as refused:
        Spending(space, PricedLimit(space.search.spend, 0.01, costs, relative))
    least = SpendingLimit.parse(re.search(r"must be at least (\S+ full trainings?)", str(refused.value))[1])
    assert Spending(space, PricedLimit(least, least.amount, costs, relative)).winners == 1


def test_an_exhaustive_plan_leaves_out_limit_goal_and_proxies(space_file, tmp_path):
    space = goal_space(space_file, trials=2, baseline_trials=1)
    planned = Sweep(space, tmp_path, plan="exhaustive").space
    for option in ({"spend": "3 trainings"}, {"goal": "10%"}):
        with pytest.raises(InvalidInput, match=r"search\.(spend|goal): .*: has no effect with plan: exhaustive; leave out --"):
            Sweep(space, tmp_path, plan="exhaustive", **option)
        assert Sweep(space.with_search(plan="exhaustive"), tmp_path, plan="limited", **option).space.search.spend is not None
    assert (planned.search.spend, planned.search.goal, planned.proxy, len(planned.budgets)) == (None, None, (), 5)
    assert planned.planned_trials == 5 * (2 + 1 + 2 * 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trials": [0, 0, 0, 2, 1]},
            r"search\.trials: \[0, 0, 0, 2, 1\]: has no trials at the budgets up to search\.goal, 10%",
        ),
        ({"baseline_trials": [0, 0, 0, 1, 1]}, r"search\.baseline_trials: \[0, 0, 0, 1, 1\]: has no trials .* 10%"),
        (
            {"proxy": [{"images": 0.5, "trials": [0, 0, 0, 5, 3]}]},
            r"proxy\.0\.trials: \[0, 0, 0, 5, 3\]: has no trials .* 10%",
        ),
    ],
)
def test_a_goal_below_all_trials_is_refused_where_no_limit_decides_their_numbers(space_file, tmp_path, changes, message):
    without_limit = {"proxy": (), "spend": None, "goal": None, "trials": 4, "baseline_trials": 1}
    with pytest.raises(InvalidInput, match=message):
        Sweep(goal_space(space_file, **without_limit | changes), tmp_path, goal="10%")
    limited = {"trials": 4, "baseline_trials": 1, "goal": "10%"} | changes
    space = goal_space(space_file, **limited).up_to_goal()
    assert SearchSpace.model_validate(space.model_dump(mode="json")) == space  # as a driver's note keeps it


def test_budgets_above_the_goal_are_not_searched_without_a_limit_either(space_file, tmp_path):
    space = goal_space(space_file, proxy=(), spend=None, goal=None, trials=[5, 4, 3, 2, 1], baseline_trials=1)
    planned = Sweep(space, tmp_path, goal="10%").space
    assert [str(budget) for budget in planned.budgets] == ["2.5%", "5%", "10%"]
    assert [planned.trials_at(budget, "staged") for budget in planned.budgets] == [5, 4, 3]
