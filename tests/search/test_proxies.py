"""Which trials of proxies come when, and what of them is tried on the target. No training; real plans where costs count."""

import pytest

from explorer import Budget, InvalidInput, SearchSpace
from explorer.errors import validated
from explorer.ledger import Trial
from explorer.search.checks import check_space
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.forecast import forecast, synthetic_record
from explorer.search.promotion import promotion
from explorer.search.proposal import first_guesses, schedule_variables, variables_of
from explorer.search.proposer import Status
from explorer.search.proxy_checks import proxy_warnings
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial, full_training_plan, relative_cost
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from tests.search.test_forecast import MACHINES
from tests.search.test_search import finish, run

QUARTER, HALF = Budget(0.25), Budget(0.5)


@pytest.fixture
def space_with(space_file):
    """The tiny search space with proxies and other search settings."""

    def made(proxy, **search) -> SearchSpace:
        content = SearchSpace.load(space_file).model_dump()
        content["search"] |= {"trials": [4, 3], "baseline_trials": 1, "promote": 2, **search}
        return validated(SearchSpace, {**content, "proxy": proxy}, "tiny.yaml")

    return made


def by_length(trial: Trial) -> float:
    """An accuracy by which schedules rank alike on every task: the longer the last stage, the better."""
    return trial.schedule.stages[-1].share


def test_proxies_come_first_the_cheapest_first_with_staged_trials_alone(space_with):
    space = space_with([{"images": 0.25}, {"images": 0.5, "trials": [2, 1]}])
    search = Search(space)
    assert search.planned == space.planned_trials == 7 + 3 + 7 + 2
    records = run(search, by_length)
    assert [record.trial.proxy for record in records] == [1] * 7 + [2] * 3 + [None] * 9
    assert {record.trial.kind for record in records[:10]} == {"staged"}
    assert records[0].trial.id == "proxy1-25pct-staged-000"
    assert search.next() == Status.FINISHED


def test_the_best_schedules_of_a_proxy_are_tried_first_at_the_same_share_with_rates_of_the_target(space_with):
    space = space_with({"images": 0.5, "trials": [9, 8]}, learning_rate_grid=3)
    # At the larger budget, short last stages are the best.
    records = run(Search(space), lambda trial: by_length(trial) if trial.budget == QUARTER else 1 - by_length(trial))
    on_proxy = [record for record in records if record.trial.proxy]
    ranked = {
        budget: sorted((r for r in on_proxy if r.trial.budget == budget), key=lambda r: -r.outcome.validation)
        for budget in space.budgets
    }
    target = [r.trial for r in records if r.trial.proxy is None and r.trial.kind == "staged"]
    first = [trial for trial in target if trial.budget == QUARTER]
    assert [trial.from_proxy for trial in first] == ["promoted", "control", "promoted", "control"]
    best = list(dict.fromkeys(record.trial.schedule.model_dump_json() for record in ranked[QUARTER]))
    assert [trial.schedule.model_dump_json() for trial in first if trial.from_proxy == "promoted"] == best[:2]
    others = best[2:]
    # Two controls, a quarter and three quarters down the schedules that were not chosen.
    expected = [others[len(others) // 4], others[3 * len(others) // 4]]
    assert [trial.schedule.model_dump_json() for trial in first if trial.from_proxy == "control"] == expected
    # Whatever the proxy's learning rates and batch sizes are, the first trials have those of the recipe.
    assert {(trial.learning_rate, trial.batch_size) for trial in first} == {(2e-3, 32)}
    # At the next budget the best of the target itself come first, then what the proxy chose there, if it is new; no controls.
    second = [trial for trial in target if trial.budget == HALF]
    chosen = list(dict.fromkeys(record.trial.schedule.model_dump_json() for record in ranked[HALF]))[:2]
    new = [each for each in chosen if each not in [trial.schedule.model_dump_json() for trial in second[:2]]]
    promoted = [trial.schedule.model_dump_json() for trial in second if trial.from_proxy == "promoted"]
    assert [trial.from_proxy for trial in second[:2]] == [None, None]
    assert promoted == new[: len(second) - 2]
    assert promoted


def test_at_dearer_budgets_a_schedule_of_a_proxy_has_the_best_rate_of_the_budget_below(space_with):
    space = space_with({"images": 0.5}, trials=[6, 5], learning_rate_grid=3)
    # The lowest learning rate is the best, whatever the schedule.
    records = run(Search(space), lambda trial: 0.5 - 100 * trial.learning_rate)
    assert {(record.trial.learning_rate, record.trial.batch_size) for record in records if record.trial.proxy} == {(2e-3, 32)}
    target = [record.trial for record in records if record.trial.proxy is None and record.trial.kind == "staged"]
    promoted = [number for number, trial in enumerate(target) if trial.budget == HALF and trial.from_proxy]
    assert promoted
    for number in promoted:
        assert target[number].learning_rate == min(trial.learning_rate for trial in target[:number] if trial.budget == QUARTER)


def test_budgets_without_trials_hand_nothing_on(space_with):
    """A proxy that is not tried at the middle budget: its best schedules go from the cheapest budget to the last one."""
    content = space_with({"images": 0.5}, trials=4).model_dump()
    proxy = {"images": 0.5, "trials": [6, 0, 2]}
    space = validated(SearchSpace, {**content, "budgets": ["12.5%", "25%", "50%"], "proxy": proxy}, "tiny.yaml")
    on_proxy = [record for record in run(Search(space), by_length) if record.trial.proxy]
    assert [str(record.trial.budget) for record in on_proxy].count("25%") == 0
    cheap = [record for record in on_proxy if str(record.trial.budget) == "12.5%"]
    best = sorted(cheap, key=lambda record: -record.outcome.validation)[:2]
    assert [r.trial.schedule for r in on_proxy if r.trial.budget == HALF] == [record.trial.schedule for record in best]


def test_a_search_is_rebuilt_from_its_records_wherever_it_stopped(space_with):
    space = space_with([{"images": 0.25}, {"images": 0.5}], repeat=1, repeat_seeds=1)
    whole = run(Search(space), by_length)
    assert len(whole) == Search(space).planned
    for stopped in (3, 9, 15, 18, 20):
        first = run(Search(space), by_length, limit=stopped)
        rest = run(Search(space, first), by_length)
        trials = [record.trial for record in (*first, *rest)]
        assert len(trials) == len({trial.id for trial in trials}) == len(whole)
        kinds = [trial.from_proxy for trial in trials if (trial.budget, trial.proxy, trial.phase) == (QUARTER, None, "search")]
        assert kinds.count("control") == 2
        assert kinds.count("promoted") == 2
    assert Search(space, whole).next() == Status.FINISHED
    started = Search(space)
    unfinished = [started.next(), started.next()]
    resumed = Search(space, (), unfinished)
    assert [resumed.next(), resumed.next()] == unfinished


def test_a_proxy_with_more_trials_extends_a_search(space_with):
    records = run(Search(space_with({"images": 0.5, "trials": [3, 3]})), by_length)
    more = run(Search(space_with({"images": 0.5, "trials": [5, 3]}), records), by_length)
    assert [record.trial.id for record in more] == ["proxy1-25pct-staged-003", "proxy1-25pct-staged-004"]


def test_while_a_proxy_is_not_settled_only_the_baseline_of_the_target_is_trained(space_with):
    space = space_with({"images": 0.5, "trials": [3, 3]})
    search = Search(space)
    begun = [search.next() for _ in range(3)]
    assert [trial.proxy for trial in begun] == [1, 1, 1]  # the cheapest budget has three places
    others = []
    while not isinstance(trial := search.next(), Status):
        others.append(trial)
    assert trial == Status.WAIT
    assert {(trial.proxy, trial.kind) for trial in others} <= {(1, "staged"), (None, "baseline")}
    for trial in (*begun, *others):
        search.finished(finish(trial, 0.5))
    assert search.next().proxy in (1, None)


def test_when_all_trials_of_a_proxy_fail_the_target_is_searched_without_it(space_with):
    records = run(Search(space_with({"images": 0.5})), lambda trial: None if trial.proxy else 0.5)
    target = [record.trial for record in records if record.trial.proxy is None]
    assert len(target) == 4 + 3 + 2
    assert {trial.from_proxy for trial in target} == {None}


def trial_of(share: float, learning_rate: float, **changes) -> Trial:
    schedule = Schedule(
        stages=(Stage(rates=Rates(heads=0.5), duration_ratio=share), Stage(rates=Rates(), duration_ratio=1 - share)), grid=10
    )
    parameters = {"duration_0": share, "heads_0": 0.5, "learning_rate": learning_rate, "batch_size": 16}
    return Trial(
        id="x",
        phase="search",
        kind="staged",
        budget="25%",
        schedule=schedule,
        learning_rate=learning_rate,
        batch_size=16,
        seed=0,
    ).model_copy(update={"parameters": parameters, **changes})


def test_promotion_takes_each_schedule_once_and_controls_from_the_rest():
    # Five schedules; the best one was tried with two learning rates.
    trials = [trial_of(0.1, 1e-3), trial_of(0.1, 2e-3), *(trial_of(share, 1e-3) for share in (0.2, 0.3, 0.4, 0.5))]
    chosen = promotion(trials, 2, 1)
    assert [(each.variables["duration_0"], each.reason) for each in chosen] == [
        (0.1, "promoted"),
        (0.4, "control"),  # the middle one of .3, .4 and .5
        (0.2, "promoted"),
    ]
    assert chosen[0].variables == {"duration_0": 0.1, "heads_0": 0.5}  # neither learning rate nor batch size
    assert [each.variables["duration_0"] for each in promotion(trials, 1, 2)] == [0.1, 0.3, 0.5]
    assert [each.reason for each in promotion(trials, 9, 2)] == ["promoted"] * 5  # nothing is left for a control
    assert promotion([], 2, 2) == []


def test_a_known_schedule_that_a_proxy_promotes_is_tried_once(space_with):
    space = space_with({"images": 0.5}, first=["paper"], trials=[5, 3], stages=3)
    records = run(Search(space), lambda trial: 0.9 if trial.known_schedule else 0.5 - by_length(trial) / 10)
    schedules = [r.trial.schedule for r in records if r.trial.proxy is None and r.trial.budget == QUARTER]
    known = next(record.trial for record in records if record.trial.known_schedule)
    assert schedules.count(known.schedule) == 1
    if variables_of(space.search, known.schedule):
        assert schedule_variables(known.parameters)


def test_equal_trainings_of_a_proxy_and_of_the_target_are_different_trainings(space_with):
    space = space_with({"epochs": 0.5}, trials=[3, 3], stages=2)
    guess = first_guesses(space.search, "staged", space.task.recipe)[0]
    assert guess["batch_size"] == 32
    seen = {}
    dispatcher = Dispatcher(Search(space), lambda trial: compile_trial(trial, space)[1])
    while isinstance(planned := dispatcher.next(), PlannedTrial):
        # Half of the epochs at 50 % are the steps of all epochs at 25 %, in another learning-rate schedule's time or not.
        assert seen.setdefault(planned.key, planned.trial.proxy) == planned.trial.proxy
        dispatcher.finished(synthetic_record(planned.trial, planned.plan, by_length(planned.trial)))
    assert set(seen.values()) == {1, None}


def test_a_proxy_costs_a_share_of_the_target(space_with):
    space = space_with({"images": 0.5, "epochs": 0.5, "trials": [4, 3]})
    full = full_training_plan(space)
    trial = Search(space).next()
    plan = compile_trial(trial, space)[1]
    assert plan.full_flops / full.full_flops == relative_cost(space, 1) == pytest.approx(0.25, rel=0.01)
    assert relative_cost(space, None) == 1
    record = synthetic_record(trial, plan, 0.5, full=full)
    # A quarter of a quarter, less than a step of the full model below: the proxy takes 18 of them.
    assert 0.0625 * (1 - 1 / 4) < record.outcome.planned_cost <= 0.0625
    expected = forecast(space, MACHINES)
    rows = {row.budget: row for row in expected.budgets}
    assert list(rows) == ["proxy 1, 25%", "proxy 1, 50%", "25%", "50%"]
    assert [(row.staged, row.baseline) for row in expected.budgets] == [(4, 0), (3, 0), (4, 1), (3, 1)]
    assert rows["proxy 1, 25%"].planned == pytest.approx(4 * 0.0625, rel=0.3)
    assert rows["25%"].planned == pytest.approx(5 * 0.25, rel=0.1)
    assert expected.trials == space.planned_trials


def test_a_dry_run_plans_a_proxy_only_where_it_is_trained(space_with):
    """Within a spending limit that is at the goal alone: 25 % holds no step of the full model of this proxy."""
    space = space_with({"epochs": 0.04}, trials=None, baseline_trials=None, spend="20 trainings", goal="50%")
    check_space(space)
    expected = forecast(space, MACHINES)
    assert [row.budget for row in expected.budgets] == ["proxy 1, 50%", "25%", "50%"]
    assert [row.full_steps > 0 for row in expected.budgets] == [True, True, True]


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ({"model": {"depth": 1}}, r"proxy\.0: rates\.depth: 0\.5: "),
        ({"model": {"embed_dim": 33}}, r"proxy\.0: model"),
        ({"images": 0.001}, r"proxy\.0: images: 0\.001: leaves no image of the class '0'"),
        ({"epochs": 0.01}, r"proxy\.0: budgets: budget: '25%': must hold at least one step of the full model"),
        (
            {"model": {"embed_dim": 64}},
            r"proxy\.0: 'embed_dim 64': costs [\d.]+ of the full training of the target: must be cheaper",
        ),
        ({"image_size": 16, "images": 0.5}, r"proxy\.0: .*of the target: must be cheaper"),
        (
            [{"images": 0.5}, {"images": 0.25}],
            r"costs 2\.\d+ of the full training of proxy\.1, which comes after it: proxies are listed",
        ),
        ({"model": {"no_such_option": 1}}, r"proxy\.0: model\.options"),
    ],
)
def test_proxies_that_cannot_stand_for_the_target_are_refused_before_anything_runs(space_with, proxy, message):
    rates = {axis: [0.5, 1.0] for axis in ("heads", "mlp", "tokens", "depth")}
    space = space_with(proxy, rates=rates, batch_size=[16, 32])
    with pytest.raises(InvalidInput, match=message) as refused:
        check_space(space)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"embed_dim": 16},
            r"proxy\.0\.model: .*'embed_dim': 16.* pretrained weights .*: cls_token has shape \(1, 1, \d+\) there",
        ),
        (
            {"depth": 1},
            r"proxy\.0\.model: .*'depth': 1.* pretrained weights .*: blocks\.1\..* there, and is missing with these",
        ),
    ],
)
def test_pretrained_weights_must_fit_the_model_of_a_proxy(space_with, model, message):
    def pretrained(proxy) -> SearchSpace:
        content = space_with(proxy, rates={"heads": [0.5, 1.0]}).model_dump()
        return validated(SearchSpace, {**content, "model": {**content["model"], "pretrained": True}}, "tiny.yaml")

    with pytest.raises(InvalidInput, match=message) as refused:
        check_space(pretrained({"model": model}))
    assert "\n" not in str(refused.value)
    check_space(space_with({"model": model}, rates={"heads": [0.5, 1.0]}))
    check_space(pretrained({"model": {"drop_rate": 0.1}, "images": 0.5}))
    check_space(pretrained({"images": 0.5}))


def test_a_batch_that_is_larger_than_the_subset_is_refused(space_with):
    message = r"proxy\.0: search\.batch_size: 128: makes batches of 128 of the 60 training images"
    with pytest.raises(InvalidInput, match=message):
        check_space(space_with({"images": 0.05}, batch_size=[128]))


def test_rates_that_a_proxy_cannot_tell_apart_are_said(space_with):
    rates = {"heads": [0.25, 0.5, 1.0]}
    assert proxy_warnings(space_with({"images": 0.5}, rates=rates)) == ()
    two_heads = space_with({"model": {"num_heads": 2, "embed_dim": 16}}, rates=rates)
    (line,) = proxy_warnings(two_heads)
    assert line == "proxy 1 cannot tell heads 0.25 from 0.5: both are 0.5 of its model"
