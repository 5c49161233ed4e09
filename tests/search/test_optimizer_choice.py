"""The optimizer as a searched choice: its learning rates and weight decay, first trials, keys, and what is written."""

import json

import pytest

from explorer import InvalidInput, SearchSpace
from explorer.errors import validated
from explorer.ledger import Trial
from explorer.ledger.earlier_sweeps import EarlierSweep
from explorer.search.checks import check_space
from explorer.search.dashboard import shown_distributions, shown_parameters
from explorer.search.proposal import (
    distributions,
    every_setting,
    first_guesses,
    learning_rate_for,
    optimization_variables,
    schedule_variables,
)
from explorer.search.trial_plan import task_spec_of
from explorer.search.warm_starts import warm_starts
from explorer.spec.budget import Budget
from explorer.spec.optimizer_choice import OptimizerChoice
from explorer.spec.provenance import Provenance
from explorer.spec.schedule import Schedule
from explorer.training_key import settings_key
from tests.conftest import with_search
from tests.search.test_warm_starts import winner

LION = OptimizerChoice(name="lion", weight_decay=0.5)


@pytest.fixture
def space(space_file) -> SearchSpace:
    """Weight decay .05, learning rates from 1e-3 to 4e-3, AdamW."""
    return with_search(SearchSpace.load(space_file), optimizer=["adamw", "lion"], learning_rate_grid=3)


def trial(**changes) -> Trial:
    content = {
        "id": "25pct-baseline-000",
        "phase": "search",
        "kind": "baseline",
        "budget": Budget(0.25),
        "schedule": Schedule.full_model(),
        "learning_rate": 2e-4,
        "batch_size": 16,
        "seed": 0,
        "optimizer": LION,
    }
    return Trial(**{**content, **changes})


def test_lion_has_a_tenth_of_the_learning_rates_and_ten_times_the_weight_decay(space):
    assert space.search.optimizer == {"adamw": 1.0, "lion": 0.1}
    for name, scale in (("adamw", 1.0), ("lion", 0.1)):
        values = {"learning_rate_step": 1, "optimizer": name}
        assert learning_rate_for(space.search, values) == pytest.approx(2e-3 * scale)
        choice = space.search.optimizer_for(name, 0.05)
        assert (choice.name, choice.weight_decay) == (name, pytest.approx(0.05 / scale))
    recipe = task_spec_of(trial(), space).recipe
    assert (recipe.optimizer, recipe.weight_decay, recipe.learning_rate) == ("lion", 0.5, 2e-4)
    assert task_spec_of(trial(optimizer=None), space).recipe.optimizer == "adamw"


def test_the_baseline_tries_each_optimizer_and_proxies_none(space):
    search = with_search(space, lr_schedule=("cosine", "linear")).search
    assert distributions(search, "staged")["optimizer"].choices == ("adamw", "lion")
    recipe = space.task.recipe  # a linear schedule
    tried = [(guess["lr_schedule"], guess["optimizer"]) for guess in first_guesses(search, "baseline", recipe)]
    assert tried == [("linear", "adamw"), ("cosine", "adamw"), ("linear", "lion")]
    assert [guess["optimizer"] for guess in first_guesses(search, "staged", recipe)] == ["adamw"]
    assert len(every_setting(search, "baseline")) == 2 * 3 * 2 * 2
    proxied = SearchSpace.model_validate({**space.model_dump(), "proxy": [{"images": 0.5}]})
    assert proxied.proxy_space(1).search.optimizer == {}
    values = {"optimizer": "lion", "duration_0": 0.5}
    assert (optimization_variables(values), schedule_variables(values)) == ({"optimizer": "lion"}, {"duration_0": 0.5})


def test_keys_tell_optimizers_apart_and_are_as_before_without():
    settings = (1e-3, 16, 0, {})
    assert settings_key(*settings) == json.dumps([1e-3, 16, 0, []])
    assert settings_key(*settings, None, LION) != settings_key(*settings)
    assert settings_key(*settings, "cosine") == json.dumps([1e-3, 16, 0, [], "cosine"])


def test_spaces_without_optimizers_are_written_as_before(space, space_file):
    assert "optimizer" not in SearchSpace.load(space_file).model_dump()["search"]
    written = space.model_dump(mode="json")
    assert written["search"]["optimizer"] == {"adamw": 1.0, "lion": 0.1}
    assert SearchSpace.model_validate(written) == space


def test_the_dashboard_shows_the_optimizer_and_its_learning_rate(space):
    shown = shown_distributions(space.search, "baseline")
    assert (shown["learning_rate"].low, shown["learning_rate"].high) == (pytest.approx(1e-4), 4e-3)
    parameters = shown_parameters(space.search, trial())
    assert (parameters["optimizer"], parameters["learning_rate"]) == ("lion", 2e-4)
    assert all(shown[name]._contains(shown[name].to_internal_repr(value)) for name, value in parameters.items())


def test_a_warm_start_brings_its_optimizer_if_it_is_searched(space, space_file):
    lion = winner(optimizer="lion", learning_rate=2e-4)
    (start,) = warm_starts(space, [EarlierSweep(name="A", currency="flops", winners=(lion,))]).on_target
    assert start.tuned == {"batch_size": 16, "learning_rate_step": 1, "optimizer": "lion"}
    starts = warm_starts(
        with_search(SearchSpace.load(space_file), trials=4), [EarlierSweep(name="A", currency="flops", winners=(lion,))]
    )
    assert starts.on_target[0].tuned is None
    assert "optimizer lion is not searched" in starts.lines[0]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"optimizer": ["lion", "sgd"]},
            r"search\.optimizer: .* for adamw, .* with a scale of 1: \{adamw: 1, lion: ..., sgd: ...\}",
        ),
        ({"optimizer": {"adamw": 10, "lion": 1}}, r"search\.optimizer: .* with a scale of 1: \{adamw: 1, lion: ...\}"),
        ({"optimizer": ["adamw", "adamw"]}, r"optimizer: .*must not contain a value twice"),
        ({"optimizer": {"adamw": 1, "lion": -1}}, r"optimizer\.lion: -1"),
        ({"optimizer": "lion"}, r"optimizer: 'lion'"),
    ],
)
def test_bad_choices_are_refused(space_file, search, message):
    with pytest.raises(InvalidInput, match=message):
        with_search(SearchSpace.load(space_file), **search)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lyon", r"search\.optimizer: 'lyon': unknown optimizer"),
        ("schedulefree_adamw", r"search\.optimizer: 'schedulefree_adamw': cannot be used: schedule-free"),
        ("fusedlamb", r"search\.optimizer: 'fusedlamb': makes no step on the CPU"),
    ],
)
def test_an_optimizer_that_cannot_train_is_refused_before_the_sweep(space_file, name, message):
    with pytest.raises(InvalidInput, match=message):
        check_space(with_search(SearchSpace.load(space_file), optimizer=["adamw", name]))


def test_a_schedule_file_brings_its_optimizer_to_production(space):
    content = {
        "sweep": "tiny",
        "trial": "25pct-staged-000",
        "budget": "25%",
        "model": space.task.model.name,
        "seed": 0,
        "learning_rate": 2e-4,
        "batch_size": 16,
        "optimizer": LION,
        "validation_accuracy": 0.5,
    }
    provenance = Provenance.model_validate(Provenance(**content).model_dump(mode="json"))
    recipe = space.task.with_schedule(Schedule.full_model().model_copy(update={"provenance": provenance})).recipe
    assert (recipe.optimizer, recipe.weight_decay, recipe.learning_rate) == ("lion", 0.5, 2e-4)


def test_step_times_are_those_of_the_recipes_optimizer_alone(space):
    content = {**space.model_dump(), "currency": "device_seconds"}
    with pytest.raises(InvalidInput, match=r"search\.optimizer: needs currency: flops"):
        validated(SearchSpace, content, "space")
