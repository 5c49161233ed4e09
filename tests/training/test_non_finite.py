"""A checkpoint never holds a number that is not finite, wherever it comes from."""

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from explorer.training import loop
from explorer.training.checkpoint import load_checkpoint
from explorer.training.errors import DivergedError
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned


@pytest.fixture
def spoil():
    """Let a weight, or a number of the optimizer's state, become NaN in the update of a step, whose loss is still finite."""
    handles = []

    def at(step, what):
        seen = [0]

        def after_step(optimizer, *_):
            seen[0] += 1
            if seen[0] == step:
                parameter = optimizer.param_groups[0]["params"][0]
                spoiled = parameter.data if what == "weight" else optimizer.state[parameter]["exp_avg"]
                spoiled.view(-1)[0] = math.nan

        handles.append(register_optimizer_step_post_hook(after_step))

    yield at
    for handle in handles:
        handle.remove()


def assert_finite(value):
    """Every number within a checkpoint's model, optimizer and average."""
    if isinstance(value, torch.Tensor):
        assert not value.is_floating_point() or value.isfinite().all()
    elif isinstance(value, dict):
        for each in value.values():
            assert_finite(each)


@pytest.mark.parametrize("what", ["weight", "optimizer"])
@pytest.mark.parametrize("number", ["within a segment", "at the end of a segment"])
def test_the_checkpoint_that_stays_is_from_before_the_divergence(
    tiny_spec, three_stages, tmp_path, monkeypatch, spoil, what, number
):
    """A checkpoint is due after every step, so it is due where the spoiled weights have not met a loss yet."""
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 1)
    task = Task(tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"ema_decay": 0.9})}))
    plan = planned(task, three_stages, "20%")
    step = sum(segment.steps for segment in plan.segments[:2]) + (0 if number == "at the end of a segment" else 2)
    spoil(step, what)
    with pytest.raises(DivergedError, match=rf"^weights are not finite after step {step} \(stage 1\)$"):
        train(task, plan, seed=0, checkpoint=tmp_path / "c.pt", checkpoint_every=0)
    content = load_checkpoint(tmp_path / "c.pt")
    assert content["steps"] == step - 1
    for name in ("model", "optimizer", "average"):
        assert_finite(content[name])


def test_weights_that_the_last_update_spoils_are_no_result(tiny_task, three_stages, spoil):
    plan = planned(tiny_task, three_stages, "5%")
    spoil(plan.steps, "weight")
    with pytest.raises(DivergedError, match=f"after step {plan.steps} "):
        train(tiny_task, plan, seed=0)


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_before_it(tiny_task, three_stages, tmp_path, monkeypatch, spoil):
    """The next loss check is many steps after the spoiled update."""
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 50)
    plan = planned(tiny_task, three_stages)
    first = plan.segments[0].steps
    assert plan.segments[1].steps > 3
    spoil(first + 2, "weight")
    with pytest.raises(DivergedError, match=f"^the loss is not finite by step {first + plan.segments[1].steps} "):
        train(tiny_task, plan, seed=0, checkpoint=tmp_path / "c.pt")
    content = load_checkpoint(tmp_path / "c.pt")
    assert content["steps"] == first
    assert_finite(content["model"])
