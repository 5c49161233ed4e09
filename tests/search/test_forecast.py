"""What a sweep will cost. Real plans and step times, no training."""

import pytest

from explorer import SearchSpace
from explorer.search.forecast import forecast
from explorer.spec.rates import Rates
from explorer.spec.search_space import RateLevels
from explorer.training.step_time import step_seconds
from explorer.training.task import Task
from tests.conftest import with_search


def test_trials_and_their_cost_by_hand(space_file):
    space = with_search(SearchSpace.load(space_file), trials=8, baseline_trials=1, repeat=1, repeat_seeds=2)
    expected = forecast(space)
    # 8 trials at 25 %, 4 at 50 %; the best of each kind again with two seeds.
    assert [(b.budget, b.staged, b.baseline, b.repeats) for b in expected.budgets] == [("25%", 8, 1, 4), ("50%", 4, 1, 4)]
    assert expected.trials == 22
    assert expected.planned == pytest.approx(13 * 0.25 + 9 * 0.5, rel=0.05)  # less than a step short of each budget
    assert expected.executed <= expected.planned
    assert expected.seconds > 22 * 0.5
    assert "22 trials" in expected.summary(space, workers=4)
    assert "with 4 side by side" in expected.summary(space, workers=4)


def test_equal_settings_share(space_file):
    rates = RateLevels(heads=(0.5, 1.0), mlp=(0.5, 1.0), tokens=(0.5, 1.0))
    settings = {"stages": 2, "rates": rates, "tied": True, "learning_rate": (2e-3, 2e-3), "learning_rate_grid": 1}
    space = with_search(SearchSpace.load(space_file), trials=6, batch_size=(32,), **settings)
    shared = forecast(space)
    unshared = forecast(SearchSpace.model_validate({**space.model_dump(), "store_gb": 0}))
    # Without a stage store only the full model is shared, once at each budget: a staged trial and the baseline train it.
    assert unshared.planned - unshared.executed == pytest.approx(0.25 + 0.5, rel=0.05)
    assert shared.executed < 0.9 * shared.planned


def test_a_smaller_step_is_measured_to_take_less_time(tiny_spec):
    options = {**tiny_spec.model.options, "embed_dim": 192, "depth": 4}
    task = Task(tiny_spec.model_copy(update={"model": tiny_spec.model.model_copy(update={"options": options})}))
    assert step_seconds(task, Rates(heads=0.25, mlp=0.25, tokens=0.25)) < 0.7 * step_seconds(task, Rates())
