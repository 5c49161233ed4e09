"""Whether an optimizer can train: it makes a step, and its state can be resized with the parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import Optimizer

from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.errors import InvalidInput

FIELD = "recipe.optimizer"
SIDE = 256
"""Side of the matrix that is trained: large enough for optimizers that factor the state of large matrices."""
KRONECKER = "kron"
"""Optimizers with this in their name keep Kronecker factors. They are not tried: compiling them takes half a minute."""


def check_optimizer_name(name: str) -> None:
    """Check that timm has an optimizer that can be used with stages, as far as its name says.

    Raises:
        InvalidInput: when it has not.
    """
    if name not in list_optimizers():
        raise InvalidInput(FIELD, name, "unknown optimizer; must be one of timm.optim.list_optimizers()")
    if KRONECKER in name:
        raise InvalidInput(FIELD, name, "cannot be used with stages: its state is not shaped like its parameters; use adamw")
    if get_optimizer_info(name).second_order:
        raise InvalidInput(FIELD, name, "needs second derivatives, which training does not compute; use adamw")


def check_optimizer(name: str, build: Callable[[nn.Module], Optimizer]) -> None:
    """Make a step with an optimizer.

    Args:
        name: name of the optimizer, for the error message.
        build: creates it for a module.

    Raises:
        InvalidInput: when it cannot make a step on the CPU, or its state cannot be resized.
    """
    layer = nn.Linear(SIDE, SIDE)
    try:
        optimizer = build(layer)
        layer(torch.ones(1, SIDE)).sum().backward()
        optimizer.step()
    except Exception as error:  # a missing package, a missing GPU, arguments that it requires
        raise InvalidInput(FIELD, name, f"makes no step on the CPU ({error}); use adamw") from None
    if obstacle := resizing_obstacle(optimizer):
        raise InvalidInput(FIELD, name, f"cannot be used with stages: {obstacle}; use adamw")
