"""Whether the state of an optimizer can be resized with its parameters, and what it starts from."""

from __future__ import annotations

from timm.optim import RMSpropTF
from torch import Tensor
from torch.optim import Optimizer

from explorer.elastic.factored_state import averaged_dim

WEIGHT_STATES = frozenset({"x0"})
"""Names of states that start from the weights: the point from which MADGRAD measures its sum of gradients."""

SCHEDULE_FREE = (
    "schedule-free optimizers replace the decay of the learning rate, which ends every budget, by an average of their own"
)
"""Why they are refused, as the end of a sentence."""


def initial_state(optimizer: Optimizer, name: str, weight: Tensor) -> Tensor | float:
    """What a state of an optimizer starts from: zero for almost all of torch's and timm's optimizers.

    Args:
        optimizer: the optimizer.
        name: name of the state, which is shaped like its parameter.
        weight: the values of the parameter.
    """
    if name in WEIGHT_STATES:
        return weight
    return 1.0 if isinstance(optimizer, RMSpropTF) and name == "square_avg" else 0.0


def has_state(optimizer: Optimizer) -> bool:
    """Whether an optimizer that has made a step keeps something for each value of a parameter, such as moments."""
    states = ((parameter, value) for parameter, state in optimizer.state.items() for value in state.values())
    return any(isinstance(value, Tensor) and value.shape == parameter.shape for parameter, value in states)


def resizing_obstacle(optimizer: Optimizer) -> str | None:
    """Why the state of an optimizer cannot be sliced like its parameters, as the end of a sentence; `None` if it can.

    Optimizers create their states in the first step, so the answer is certain only after one.
    """
    if hasattr(optimizer, "train") and hasattr(optimizer, "eval"):  # the interface of schedule-free optimizers
        return SCHEDULE_FREE
    for attribute in vars(optimizer).values():
        if isinstance(attribute, Optimizer) and attribute.state is not optimizer.state:  # as in timm's Lookahead
            return f"its state is kept by the {type(attribute).__name__} that it wraps"
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            tensors = value if isinstance(value, list | tuple) else [value]
            shapes = {tensor.shape for tensor in tensors if isinstance(tensor, Tensor) and tensor.numel() > 1}
            factor = averaged_dim(optimizer, parameter, name, parameter.shape) is not None
            if shapes - {parameter.shape} and not factor:
                return f"its state {name!r} is not shaped like its parameter"
    return None
