"""Whether the state of an optimizer can be resized with its parameters."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def resizing_obstacle(optimizer: Optimizer) -> str | None:
    """Why the state of an optimizer cannot be sliced like its parameters, as the end of a sentence; `None` if it can.

    Optimizers create their states in the first step, so the answer is certain only after one.
    """
    for attribute in vars(optimizer).values():
        if isinstance(attribute, Optimizer) and attribute.state is not optimizer.state:  # as in timm's Lookahead
            return f"its state is kept by the {type(attribute).__name__} that it wraps"
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            tensors = value if isinstance(value, list | tuple) else [value]
            shapes = {tensor.shape for tensor in tensors if isinstance(tensor, Tensor) and tensor.numel() > 1}
            if shapes - {parameter.shape}:
                return f"its state {name!r} is not shaped like its parameter"
    return None
