"""Keys are equal exactly where trainings are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer import Budget, Rates, Schedule, Stage
from explorer.plan import StepCost, compile_plan
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.training_key import prefix_keys, schedule_key, settings_key, training_key


class PlainTask:
    """A task whose steps cost as much as their heads' rate."""

    train_images, epochs, batch_size, frozen_until = 400, 10, 10, 0.0

    def __init__(self, **schedule):
        self.lr_schedule = LearningRateSchedule(**schedule)

    def step_cost(self, rates):
        return StepCost(rates, round(1000 * rates.heads))


def segments(units=(3, 3, 4), budget=1.0, **schedule):
    stages = [
        Stage(rates=Rates(heads=rate), duration_ratio=count / 10)
        for rate, count in zip((0.25, 0.5, 1.0), units, strict=True)
        if count
    ]
    task = PlainTask(**schedule)
    return compile_plan(Schedule(stages=tuple(stages), grid=10), task, Budget(budget), task.step_cost).segments


def described(parts):
    """What training does in each step: the definition that keys stand for."""
    return [(s.requested, s.learning_rate_factor(step)) for s in parts for step in range(s.steps)]


shapes = st.sampled_from(
    [{"kind": "wsd"}, {"kind": "wsd", "warmup": 0.15, "cooldown": 0.35}, {"kind": "linear", "warmup": 0.1}, {"kind": "cosine"}]
)
divisions = st.sampled_from([units for units in itertools.product(range(10), repeat=3) if sum(units) == 10 and units[2]])


@given(divisions, divisions, st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.25, 0.5, 1.0]), shapes)
def test_keys_are_equal_exactly_where_all_steps_are(one_units, other_units, one_budget, other_budget, shape):
    one, other = segments(one_units, one_budget, **shape), segments(other_units, other_budget, **shape)
    one_keys, other_keys = prefix_keys("base", one), prefix_keys("base", other)
    assert len(one_keys) == len(one) - 1
    one_steps = [described(one[:count]) for count in range(1, len(one))]
    other_steps = [described(other[:count]) for count in range(1, len(other))]
    for (one_key, steps), (other_key, other_part) in itertools.product(
        zip(one_keys, one_steps, strict=True), zip(other_keys, other_steps, strict=True)
    ):
        assert (one_key == other_key) == (steps == other_part)


def test_keys_depend_on_what_is_not_in_the_segments():
    parts = segments()
    assert not set(prefix_keys({"seed": 1}, parts)) & set(prefix_keys({"seed": 2}, parts))
    assert prefix_keys({"a": 1, "b": 2}, parts) == prefix_keys({"b": 2, "a": 1}, parts)


def test_a_constant_learning_rate_is_shared_between_budgets():
    small, large = prefix_keys("", segments((0, 0, 10), 0.5, kind="wsd")), prefix_keys("", segments((0, 0, 10), kind="wsd"))
    # Two slots of 50 % are one of 100 %; the cooldown is the last fifth.
    assert [key in large for key in small] == [False, True, False, True, False, True, False, True, False]


@pytest.mark.parametrize(
    "changed", [{"learning_rate": 2e-3}, {"batch_size": 32}, {"seed": 1}, {"staging": {"subset": "random"}}]
)
def test_settings_are_in_the_key(changed):
    settings = {"learning_rate": 1e-3, "batch_size": 16, "seed": 0, "staging": {}}
    assert settings_key(**settings) != settings_key(**{**settings, **changed})
    assert training_key(settings_key(**settings), "d") != training_key(settings_key(**settings), "e")


def test_where_a_schedule_comes_from_is_not_in_its_key(three_stages):
    assert schedule_key("s", three_stages) == schedule_key("s", Schedule.model_validate(three_stages.model_dump()))
    assert schedule_key("s", three_stages) != schedule_key("s", Schedule.full_model())
