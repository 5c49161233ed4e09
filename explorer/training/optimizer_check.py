"""Whether an optimizer can train: it makes a step, and its state can be resized with the parameters."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches

import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import Optimizer

from explorer.elastic.optimizer_state import SCHEDULE_FREE, resizing_obstacle
from explorer.errors import InvalidInput

FIELD = "recipe.optimizer"
SIDE = 256
"""Side of the matrix that is trained: large enough for optimizers that factor the state of large matrices."""
NOT_SHAPED = "cannot be used with stages: its state is not shaped like its parameters"
REFUSED = {
    "kron": NOT_SHAPED,  # not tried: compiling it takes half a minute
    "shampoo": NOT_SHAPED,
    "soap": NOT_SHAPED,
    "lookahead": "cannot be used with stages: its state is kept by the optimizer that it wraps",
    "schedulefree": f"cannot be used: {SCHEDULE_FREE}",
    "sophia": "needs second derivatives, which training does not compute",
}
"""Parts of names of optimizers that are refused, with the reason."""


def check_optimizer_name(name: str) -> None:
    """Check that timm has an optimizer that can be used with stages, as far as its name says.

    Raises:
        InvalidInput: when it has not.
    """
    spelled = re.sub(r"[^a-z]", "", name.lower())
    for part, reason in REFUSED.items():
        if part in spelled:
            raise InvalidInput(FIELD, name, f"{reason}; use adamw")
    if name not in list_optimizers():
        nearest = get_close_matches(name, list_optimizers(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InvalidInput(FIELD, name, f"unknown optimizer; must be one of timm.optim.list_optimizers(){hint}")
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
