"""Several optimizers of one model, and optimizers whose state is not made of moments."""

import pytest
import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional

from explorer import InvalidInput, Rates, Schedule, Stage
from tests.production.conftest import WIDTHS
from tests.production.loops import one_step, same, small, staged

DEPTHS = Schedule(
    stages=(Stage(rates=Rates(depth=0.5, mlp=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=4
)


def divided(model):
    """Matrices and the rest, as for Muon."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    return matrices, [parameter for parameter in model.parameters() if parameter.ndim != 2]


class Both:
    """Two optimizers that step together, for the shared loop."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


@pytest.mark.parametrize("schedule", [WIDTHS, DEPTHS])
def test_two_optimizers_end_where_one_with_the_same_settings_ends(schedule):
    ends = []
    for several in (False, True):
        model, optimizer = small()
        optimizers = [torch.optim.AdamW(part, lr=1e-2) for part in divided(model)] if several else [optimizer]
        training = staged(model, optimizers, schedule)
        while training.step():
            one_step(model, Both(optimizers), training.begun)
        assert {group["lr"] for each in optimizers for group in each.param_groups} == {1e-2 * training.factor}
        ends.append(model)
    assert same(*ends)


def test_muon_for_matrices_and_adamw_for_the_rest():
    model, _ = small()
    matrices, rest = divided(model)
    optimizers = [torch.optim.Muon(matrices, lr=1e-2), torch.optim.AdamW(rest, lr=1e-3)]
    training = staged(model, optimizers, WIDTHS)
    while training.step():
        one_step(model, Both(optimizers), training.begun)
    weight = model.blocks[0].mlp.fc1.weight
    assert optimizers[0].state[weight]["momentum_buffer"].shape == weight.shape == (128, 32)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_what_accelerate_has_prepared_is_trained_as_what_it_wraps(mixed_precision):
    ends = []
    for given in ("own", "prepared"):
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
        model, optimizer = small()
        wrapped_model, wrapped = accelerator.prepare(model, optimizer)
        training = staged(model, optimizer, WIDTHS) if given == "own" else staged(wrapped_model, [wrapped], WIDTHS)
        assert training.optimizers == (optimizer,)
        while training.step():
            one_step(wrapped_model, wrapped, training.begun)
        ends.append(model)
    assert same(*ends)


def test_optimizers_that_do_not_divide_the_parameters_are_refused():
    model, optimizer = small()
    matrices, rest = divided(model)
    with pytest.raises(InvalidInput, match="optimizer: 'AdamW': was not built for this model: it does not have"):
        staged(model, [torch.optim.AdamW(matrices)])
    with pytest.raises(InvalidInput, match="optimizer: 'AdamW, SGD': must divide the parameters: cls_token is in two of them"):
        staged(model, [optimizer, torch.optim.SGD(rest, lr=0.1)])
    with pytest.raises(InvalidInput, match=r"optimizer: \(\): must be an optimizer of torch"):
        staged(model, [])


def test_sleeping_blocks_are_not_decayed_by_a_gradient_of_zero():
    model, _ = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    training = staged(model, optimizer, DEPTHS)
    sleeping = {name: tensor.clone() for name, tensor in model.blocks[1].state_dict().items()}
    block = model.blocks[1]
    for _ in range(3):
        training.step()
        optimizer.zero_grad()
        functional.cross_entropy(model(torch.ones(8, 3, 16, 16)), torch.arange(8) % 5).backward()
        for parameter in block.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    assert len(model.blocks) == 1
    with training.at_full_size():
        assert all(torch.equal(sleeping[name], tensor) for name, tensor in block.state_dict().items())


class Anchored(torch.optim.SGD):
    """Pulls the weights back to where they began, which it keeps in its state."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    anchor = self.state[parameter].setdefault("anchor", parameter.detach().clone())
                    parameter.data.lerp_(anchor, 0.01)
        super().step(closure)


def test_a_state_that_holds_weights_is_recognized_by_behaviour():
    model, _ = small()
    optimizer = Anchored(model.parameters(), lr=1e-2)
    training = staged(model, optimizer, WIDTHS)
    training.step()
    one_step(model, optimizer, 1)
    with pytest.raises(
        InvalidInput, match="optimizer: 'Anchored': cannot be used with stages: its state 'anchor' holds weights"
    ):
        training.step()


@pytest.mark.parametrize(
    "name", ["adamw", "adan", "lion", "lamb", "mars", "nadamw", "muon", "sgd", "rmsprop", "adopt", "laprop"]
)
def test_moments_are_not_taken_for_weights(name):
    model, _ = small()
    optimizer = timm.optim.create_optimizer_v2(model, name, lr=1e-2, weight_decay=0.3, filter_bias_and_bn=False)
    training = staged(model, optimizer, WIDTHS)
    while training.step():
        one_step(model, optimizer, training.begun)
    assert isinstance(model, nn.Module)
