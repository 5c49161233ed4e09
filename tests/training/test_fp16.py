"""fp16 with a scaled loss, on the CPU: updates that are skipped, clipping of unscaled gradients, and resumes."""

import math

import pytest
import torch

from explorer.training.device import training_on
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.loop import train
from explorer.training.steps import training_steps
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from tests.training.runs import assert_resumes_exactly, planned

CPU = torch.device("cpu")


def fp16_task(spec, **recipe) -> Task:
    return Task(spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"amp": "fp16", **recipe})}))


def test_the_device_trains_in_the_precision_of_the_recipe(tiny_spec):
    task = fp16_task(tiny_spec)
    assert (task.precision(CPU), Task(tiny_spec).precision(CPU)) == ("fp16", None)
    assert task.autocast(CPU).fast_dtype == torch.float16
    assert training_on("cpu", task.precision(CPU), 1, 1) == "training on the CPU, 1 thread, fp16"


def test_a_step_whose_gradients_are_not_finite_changes_nothing_and_is_counted(tiny_spec, three_stages):
    """A loss times 2^60 overflows fp16; each skipped step halves the scale."""
    task = fp16_task(tiny_spec)
    plan = planned(task, three_stages, "25%")
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    segment = plan.segments[0]
    state.begin(segment)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**60})
    before = state.model.head.weight.detach().clone()
    list(training_steps(task, state, segment, task.train_batches(0, 0, 2, CPU)))
    assert torch.equal(state.model.head.weight, before)
    assert (state.skipped_updates, state.scaler.get_scale()) == (2, 2.0**58)
    with state.content() as content:
        assert (content["steps"], content["skipped_updates"], content["scaler"]["scale"]) == (2, 2, 2.0**58)


def test_gradients_are_clipped_after_they_are_unscaled(tiny_spec, three_stages):
    """One step of SGD without momentum at learning rate 1 moves all weights together by the maximum norm."""
    task = fp16_task(tiny_spec, optimizer="momentum", learning_rate=1.0, weight_decay=0.0, clip_grad=1e-2)
    segment = planned(task, three_stages, "25%").segments[0]
    state = TrainingState(task, 0, CPU, SINGLE_PROCESS)
    state.begin(segment)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 1024.0})
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    next(training_steps(task, state, segment, task.train_batches(0, 0, 1, CPU)))
    moved = [(parameter.detach() - old).flatten() for parameter, old in zip(state.model.parameters(), before, strict=True)]
    assert state.skipped_updates == 0
    assert torch.cat(moved).norm().item() == pytest.approx(1e-2, rel=1e-3)


def test_fp16_trains_through_stages_and_resumes_exactly(tiny_spec, three_stages, tmp_path):
    task = fp16_task(tiny_spec)
    plan = planned(task, three_stages.model_copy(update={"grid": 10}), "8%")
    result = assert_resumes_exactly(task, plan, (4,), tmp_path)
    assert math.isfinite(result.segments[-1].mean_loss)
    assert next(result.model.parameters()).dtype == torch.float32


def test_skipped_updates_of_a_run_are_said(tiny_spec, three_stages, monkeypatch):
    monkeypatch.setattr(torch.amp.GradScaler, "__init__", _with_scale(2.0**30))
    task = fp16_task(tiny_spec)
    plan = planned(task, three_stages, "10%")
    with pytest.warns(UserWarning, match=rf"\d+ of {plan.steps} steps changed nothing: gradients were not finite in fp16"):
        result = train(task, plan, seed=0)
    assert 0 < result.skipped_updates < plan.steps


def _with_scale(scale):
    original = torch.amp.GradScaler.__init__
    return lambda self, *arguments, **named: original(self, *arguments, init_scale=scale, **named)
