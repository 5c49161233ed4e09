"""The baseline is tried at every setting it was promised, whatever staged trials were the same training. Nothing is trained."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.trials import COLUMNS
from explorer.ledger import KINDS
from explorer.plan import StepCost, compile_plan
from explorer.report.panels.spending import spending_data
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.forecast import synthetic_record
from explorer.search.proposer import Status
from explorer.search.search import Search
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import AXES


class PlainTask:
    """A task for plans without a model: a step costs its rates' product."""

    train_images, epochs, lr_schedule, frozen_until = 6400, 10, LearningRateSchedule(kind="linear"), 0.0

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def step_cost(self, rates):
        share = 1.0
        for axis in AXES:
            share *= getattr(rates, axis)
        return StepCost(rates, round(1e6 * share) * self.batch_size)


def plan_of(trial):
    task = PlainTask(trial.batch_size)
    return compile_plan(trial.schedule, task, trial.budget, task.step_cost)


def small_space(**search) -> SearchSpace:
    return SearchSpace.model_validate(
        {
            "name": "small",
            "model": {"name": "vit_tiny_patch16_224"},
            "data": {"name": "digits"},
            "recipe": {"epochs": 10, "batch_size": 16, "learning_rate": 2e-3},
            "budgets": ["10%", "20%"],
            "search": {"rates": {"heads": [0.5, 1]}, "stages": 2, "grid": 4, "learning_rate": [1e-3, 4e-3], **search},
        }
    )


def run(space, at_once, seed=0, records=(), limit=10_000):
    """The records of a sweep with random accuracies, the earlier ones included; `at_once` trials run side by side."""
    draw, records = random.Random(seed), list(records)
    dispatcher = Dispatcher(Search(space, records), plan_of, records)
    running, status = [], None
    while len(records) < limit:
        while status is not Status.FINISHED and len(running) < at_once:
            planned = dispatcher.next()
            records += dispatcher.take_shared_records()
            if not isinstance(planned, PlannedTrial):
                status = planned
                break
            running.append(planned)
        if not running:
            assert status is Status.FINISHED  # never waiting for nothing
            break
        planned = running.pop(draw.randrange(len(running)))
        accuracy = random.Random(f"{seed} {planned.key}").random()
        records.append(synthetic_record(planned.trial, planned.plan, accuracy))
        dispatcher.finished(records[-1])
        records += dispatcher.take_shared_records()
    return records


def checked(space, records):
    """See that the records are those of a finished sweep, charged once."""
    assert len({record.trial.id for record in records}) == len(records)
    search = space.search
    distinct = len(set(search.learning_rates())) * len(set(search.batch_size))
    for budget in space.budgets:
        baseline = [r for r in records if r.trial.kind == "baseline" and r.trial.budget == budget and r.trial.phase == "search"]
        wanted = min(space.trials_at(budget, "baseline"), distinct)
        assert len(baseline) == wanted
        assert len({(r.trial.learning_rate, r.trial.batch_size) for r in baseline}) == wanted
    trained = [record for record in records if record.shared_with is None]
    training = {(r.plan, r.trial.learning_rate, r.trial.batch_size, r.trial.seed): r.trial.id for r in trained}
    assert len(training) == len(trained)  # no training twice
    for record in records:
        trial = record.trial
        same = training[record.plan, trial.learning_rate, trial.batch_size, trial.seed]
        assert same == (record.shared_with or trial.id)
    charged = sum(record.outcome.executed_flops for record in records)
    assert charged == sum(record.outcome.planned_flops for record in trained)
    frame = trials_frame(records)
    assert list(frame.columns) == COLUMNS
    assert frame.executed_flops.sum() == charged
    assert frame.shared_with.notna().sum() == len(records) - len(trained)
    assert spending_data(frame).spent.iloc[-1] == pytest.approx(charged / records[0].outcome.full_flops, rel=0.01)
    for budget, kind in product(space.budgets, KINDS):
        of_kind = [r for r in records if (r.trial.budget, r.trial.kind, r.trial.phase) == (budget, kind, "search")]
        best = max(r.outcome.validation for r in of_kind)
        if not search.repeat:
            table = best_by_budget(frame)
            row = table[(table.budget == str(budget)) & (table.kind == kind)].iloc[0]
            assert row.validation_mean == pytest.approx(best)
        repeats = [r for r in records if (r.trial.budget, r.trial.kind, r.trial.phase) == (budget, kind, "repeat")]
        assert len(repeats) == min(search.repeat, len(of_kind)) * space.seeds_at(budget)
        if repeats:
            assert max(of_kind, key=lambda r: r.outcome.validation).trial.id in {r.trial.repeat_of for r in repeats}


spaces = st.fixed_dictionaries(
    {
        "trials": st.integers(1, 12),
        "baseline_trials": st.integers(1, 9),
        "learning_rate_grid": st.integers(2, 4),
        "batch_size": st.sampled_from([(16,), (8, 16)]),
        "repeat": st.integers(0, 2),
        "repeat_seeds": st.integers(1, 2),
        "promote": st.integers(0, 3),
        "sampler": st.sampled_from(["tpe", "random"]),
        "seed": st.integers(0, 3),
    }
)


@settings(max_examples=25)
@given(spaces, st.integers(1, 5), st.integers(0, 1000))
def test_each_kind_has_all_its_records_and_each_training_is_charged_once(search, at_once, seed):
    space = small_space(**search)
    checked(space, run(space, at_once, seed))


@settings(max_examples=10)
@given(spaces, st.integers(1, 5), st.integers(1, 30))
def test_a_sweep_that_was_stopped_ends_with_all_its_records_too(search, at_once, stopped_after):
    space = small_space(**search)
    first = run(space, at_once, limit=stopped_after)
    records = run(space, at_once, records=first)
    assert records[: len(first)] == first
    checked(space, records)


def test_the_baseline_wins_with_the_setting_that_a_staged_trial_tried_first():
    # One staged trial at a time, all stages of full rates are possible: the best setting is found by both kinds.
    space = small_space(trials=12, baseline_trials=8, learning_rate_grid=4, batch_size=(8, 16))
    records = run(space, 1)
    shared = [record for record in records if record.shared_with]
    assert {record.trial.kind for record in shared} <= set(KINDS)
    assert any(record.trial.kind == "baseline" for record in shared)


def test_the_demo_has_twelve_of_twelve_baseline_settings_at_the_cheapest_budget():
    space = SearchSpace.load("search_spaces/digits.yaml").with_search(plan="exhaustive").as_planned()
    records = run(space, 2)
    cheapest = [r.trial for r in records if r.trial.kind == "baseline" and r.trial.phase == "search"]
    cheapest = [trial for trial in cheapest if trial.budget == space.budgets[0]]
    assert len({(trial.learning_rate, trial.batch_size) for trial in cheapest}) == len(cheapest) == 12
    checked(space, records)
