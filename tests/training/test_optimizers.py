"""Every optimizer of timm either trains, with its state resized, or is refused before training."""

import pytest
import torch
from timm.optim import list_optimizers
from torch.nn import functional

from explorer import InvalidInput, Rates, Schedule
from explorer.spec.schedule import Stage
from explorer.training.staged_model import StagedModel
from explorer.training.task import Task
from tests.training.runs import assert_resumes_exactly, planned

REFUSED = {
    **dict.fromkeys(("kron", "kronc", "kronw"), "cannot be used with stages: its state is not shaped like its parameters"),
    "adahessian": "needs second derivatives",
    # On machines without a GPU and these packages.
    **{name: r"makes no step on the CPU \(.*\)" for name in list_optimizers() if name.startswith(("bnb", "fused"))},
}
"""What is wrong with the optimizers that are refused."""


def task_with(spec, optimizer) -> Task:
    return Task(spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"optimizer": optimizer})}))


@pytest.mark.parametrize("optimizer", sorted(set(list_optimizers()) - set(REFUSED)))
def test_an_optimizer_that_is_accepted_trains_and_grows(tiny_spec, optimizer):
    task = task_with(tiny_spec, optimizer)
    task.check()
    model = task.build_model()
    staged = StagedModel(model, task.build_optimizer(model), image_size=8)
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    for rates in (Rates(heads=0.5, mlp=0.5, tokens=0.5, depth=0.5), Rates()):
        staged.set_rates(rates)
        before = model.head.weight.detach().clone()
        for _ in range(2):  # the first step of ADOPT only measures the gradient
            staged.optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            staged.optimizer.step()
        assert not torch.equal(model.head.weight, before)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


FAMILIES = {
    "sgd": ("heads", "mlp"),
    "lion": ("depth", "tokens"),
    "adan": ("mlp", "depth"),
    "lamb": ("heads", "depth"),
    "adafactor": ("heads", "mlp", "depth"),
    "adafactorbv": ("heads", "mlp"),
    "muon": ("heads", "mlp", "depth"),
    "adamuon": ("mlp", "tokens"),
    "nadamuon": ("heads", "tokens"),
}
"""One optimizer of each family, and the axes on which its model is reduced."""
NIGHTLY = {"adafactorbv", "nadamuon"}
"""Their states have the shapes of those of adafactor and adamuon."""


@pytest.mark.parametrize(
    ("optimizer", "axes"),
    [pytest.param(*each, marks=pytest.mark.nightly if each[0] in NIGHTLY else []) for each in sorted(FAMILIES.items())],
)
def test_each_family_resumes_bit_for_bit_after_growth(tiny_spec, tmp_path, optimizer, axes):
    task = task_with(tiny_spec, optimizer)
    stages = [(0.5, 0.3), (0.75 if "depth" not in axes else 0.5, 0.3), (1.0, 0.4)]
    schedule = Schedule(
        stages=tuple(Stage(rates=Rates(**dict.fromkeys(axes, rate)), duration_ratio=ratio) for rate, ratio in stages), grid=10
    )
    assert_resumes_exactly(task, planned(task, schedule, "10%"), (2, 5), tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lookahead_adamw", "cannot be used with stages: its state is kept by the optimizer that it wraps; use adamw"),
        ("schedulefree_adamw", "cannot be used: schedule-free optimizers replace the decay of the learning rate"),
        ("AdamWScheduleFree", "cannot be used: schedule-free optimizers replace the decay of the learning rate"),
        ("shampoo", "cannot be used with stages: its state is not shaped like its parameters; use adamw"),
        ("sophia-g", "needs second derivatives, which training does not compute; use adamw"),
        ("adamww", r"unknown optimizer; must be one of timm.optim.list_optimizers\(\); did you mean adamw\?"),
    ],
)
def test_an_optimizer_that_timm_does_not_have_is_refused_with_the_reason(tiny_spec, name, reason):
    with pytest.raises(InvalidInput, match=rf"recipe\.optimizer: '{name}': {reason}"):
        task_with(tiny_spec, name)


@pytest.mark.parametrize(("optimizer", "message"), sorted(REFUSED.items()))
def test_an_optimizer_that_cannot_train_is_refused(tiny_spec, optimizer, message):
    with pytest.raises(InvalidInput, match=rf"recipe\.optimizer: '{optimizer}': {message}.*; use adamw"):
        task_with(tiny_spec, optimizer).check()
