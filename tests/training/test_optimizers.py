"""Every optimizer of timm either trains, with its state resized, or is refused before training."""

import pytest
import torch
from timm.optim import list_optimizers
from torch.nn import functional

from explorer import InvalidInput, Rates
from explorer.training.staged_model import StagedModel
from explorer.training.task import Task

FACTORED = {"adafactor", "adafactorbv", "adafactorbvc", "cadafactor", "cadafactorbv", "cadafactorbvc"}
REFUSED = {
    **dict.fromkeys(FACTORED, "cannot be used with stages: its state '.*' is not shaped like its parameter"),
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
    for rates in (Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates()):
        staged.set_rates(rates)
        before = model.head.weight.detach().clone()
        for _ in range(2):  # the first step of ADOPT only measures the gradient
            staged.optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            staged.optimizer.step()
        assert not torch.equal(model.head.weight, before)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("optimizer", "message"), sorted(REFUSED.items()))
def test_an_optimizer_that_cannot_train_is_refused(tiny_spec, optimizer, message):
    with pytest.raises(InvalidInput, match=rf"recipe\.optimizer: '{optimizer}': {message}.*; use adamw"):
        task_with(tiny_spec, optimizer).check()
