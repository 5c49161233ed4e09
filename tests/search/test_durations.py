"""Durations that are fractions of full training: promoted schedules keep where their early stages end, in equal costs."""

from itertools import pairwise

import pytest

from explorer import Budget, InvalidInput, Rates, Schedule, SearchSpace, Stage
from explorer.ledger import Trial
from explorer.search.checks import check_space
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.forecast import forecast
from explorer.search.proposal import schedule_for, variables_at_larger_budget
from explorer.search.proposer import Status
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.training_key import trunk_length
from tests.search.test_dispatcher import Listed
from tests.search.test_forecast import MACHINES
from tests.search.test_search import finish, run

TRUNK = {"kind": "wsd", "warmup": 0.01, "warmup_of": "full_training"}
QUARTER, HALF = Rates(heads=0.25, mlp=0.25, tokens=0.25), Rates(heads=0.5, mlp=0.5, tokens=0.5)


@pytest.fixture
def space(space_file):
    def make(lr_schedule=TRUNK, budgets=("25%", "50%", "100%"), **search) -> SearchSpace:
        content = SearchSpace.load(space_file).model_dump(mode="json")
        content |= {"budgets": list(budgets)}
        content["recipe"]["lr_schedule"] = lr_schedule
        content["search"] |= {"durations_of": "full_training", "tied": True, **search}
        return SearchSpace.model_validate(content)

    return make


def ends(trial: Trial) -> list[tuple[float, float]]:
    """Rates of heads, and the cost in full trainings at which the stage ends, of the early stages."""
    total, found = 0.0, []
    for stage in trial.schedule.stages[:-1]:
        total += stage.share * trial.budget.amount
        found.append((stage.rates.heads, round(total, 9)))
    return found


def test_slots_cost_the_same_at_every_budget(space):
    made = space()
    assert [made.search_at(budget).grid for budget in made.budgets] == [10, 20, 40]
    shares = space(durations_of="budget")
    assert [shares.search_at(budget).grid for budget in shares.budgets] == [10, 10, 10]
    flops = space(budgets=("3e8 FLOPs", "9e8 FLOPs"))
    assert [flops.search_at(budget).grid for budget in flops.budgets] == [10, 30]


def test_a_promoted_schedule_keeps_its_early_stages_and_its_settings(space):
    search = Search(space(trials=[9, 6, 6], baseline_trials=1, promote=2, learning_rate_grid=3))
    records = run(search, accuracy=lambda trial: {"25pct-staged-000": 0.9, "25pct-staged-001": 0.8}.get(trial.id, 0.5))
    trials = {record.trial.id: record.trial for record in records}
    best = trials["25pct-staged-000"]
    promoted = [trial for trial in trials.values() if trial.budget == Budget(0.5) and ends(trial) == ends(best)]
    assert ends(best)
    promoted = promoted[0]  # the others have another learning rate or batch size
    assert promoted.learning_rate == best.learning_rate
    assert promoted.schedule.grid == 20
    assert promoted.schedule != best.schedule
    assert (promoted.batch_size, promoted.staging) == (best.batch_size, best.staging)
    for trial in trials.values():  # all of them are on the common grid: 2.5 % of full training
        assert all(abs(end / 0.025 - round(end / 0.025)) < 1e-6 for _, end in ends(trial)), trial.id


def test_the_plan_of_a_promoted_schedule_begins_with_that_of_the_smaller_budget(space):
    made = space(
        trials=[9, 3, 3], baseline_trials=3, promote=1, learning_rate_grid=1, learning_rate=(2e-3, 2e-3), batch_size=(16,)
    )
    records = run(Search(made), accuracy=lambda trial: 0.9 if trial.id in ("25pct-staged-000", "50pct-staged-000") else 0.5)
    trials = {record.trial.id: record.trial for record in records}
    for chain in (("25pct-staged-000", "50pct-staged-000", "100pct-staged-000"), ("25pct-baseline-000", "50pct-baseline-000")):
        plans = [compile_trial(trials[name], made)[1] for name in chain]
        for smaller, larger in pairwise(plans):
            trunk = trunk_length(smaller.segments)
            assert trunk == round(0.8 * 10 * smaller.budget.amount / 0.25)
            steps = [
                [
                    (s.requested, s.steps, s.warmup, [s.learning_rate_factor(n) for n in range(s.steps)])
                    for s in plan.segments[:trunk]
                ]
                for plan in (smaller, larger)
            ]
            assert steps[0] == steps[1]


def test_variables_of_any_promoted_schedule_give_it_again(space):
    made = space(stages=3)
    search = made.search_at(Budget(1.0))
    for early in ((0, 0), (1, 0), (0, 9), (3, 5), (9, 0), (1, 8)):
        slots = (*early, 10 - sum(early))
        stages = [Stage(rates=r, duration_ratio=n / 10) for r, n in zip((QUARTER, HALF, Rates()), slots, strict=True) if n]
        variables = variables_at_larger_budget(search, Schedule(stages=tuple(stages), grid=10))
        schedule = schedule_for(search, "staged", variables)
        assert [(s.rates, round(s.share * 40, 6)) for s in schedule.stages[:-1]] == [
            (s.rates, round(s.share * 10, 6)) for s in stages[:-1]
        ]


def test_a_trial_waits_for_one_at_a_smaller_budget_that_trains_its_trunk(space):
    made = space()
    settings = {"phase": "search", "kind": "baseline", "learning_rate": 1e-3, "batch_size": 32, "seed": 0}
    small, large = (
        Trial(id=budget, budget=budget, schedule=Schedule.full_model(grid), **settings)
        for budget, grid in (("25%", 10), ("100%", 40))
    )
    dispatcher = Dispatcher(Listed([small, large]), lambda trial: compile_trial(trial, made)[1])
    first = dispatcher.next()
    assert isinstance(first, PlannedTrial)
    assert dispatcher.next() == Status.WAIT
    dispatcher.progressed("25%", 8)  # the cooldown begins
    assert dispatcher.next().trial == large
    dispatcher.finished(finish(small, 0.5))


def test_the_forecast_counts_the_shared_trunk(space):
    """The baseline at 25, 50 and 100 %: cooldowns of 5, 10 and 20 %, and a trunk of 80 %."""
    settings = {"trials": 1, "baseline_trials": 1, "learning_rate_grid": 1, "learning_rate": (2e-3, 2e-3), "batch_size": (32,)}
    shared = forecast(space(**settings, rates={"heads": [1]}, tied=False), MACHINES)
    assert shared.planned == pytest.approx(
        2 * 1.75, abs=0.09
    )  # to within a step each; a staged trial of the full model is the same training
    assert shared.executed == pytest.approx(1.15, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr_schedule": {"kind": "wsd"}}, "needs recipe.lr_schedule: {kind: wsd, warmup_of: full_training}"),
        ({"lr_schedule": {**TRUNK, "kind": "linear"}}, "needs recipe.lr_schedule: {kind: wsd, warmup_of: full_training}"),
        ({"budgets": ["25%", "26%"]}, "a slot is 1/10 of 25%, and 26% is 10.4 slots"),
        ({"budgets": ["0.5%", "100%"]}, "100% is 2000 slots: it must be a whole number of at most 1000"),
    ],
)
def test_what_has_no_common_steps_is_refused(space, changes, said):
    with pytest.raises(ValueError, match=r"search\.durations_of: ") as raised:
        space(**changes)
    assert said in str(raised.value)


def test_a_warmup_longer_than_a_budget_is_refused_before_the_sweep(space):
    with pytest.raises(InvalidInput, match=r"recipe.lr_schedule.warmup: 0.3.* at most 80% of the budget 25%"):
        check_space(space({**TRUNK, "warmup": 0.3}))
    check_space(space())
