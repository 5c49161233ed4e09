"""Whether an optimizer's state can be resized with its parameters."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def resizing_obstacle(optimizer: Optimizer) -> str | None:
    """Why an optimizer's state cannot be sliced as its parameters are, as far as it has any yet; None where it can."""
    for part in vars(optimizer).values():
        if isinstance(part, Optimizer) and part.state is not optimizer.state:  # as in timm's Lookahead
            return f"its state is kept by the {type(part).__name__} that it wraps"
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            tensors = value if isinstance(value, list | tuple) else [value]
            shapes = {part.shape for part in tensors if isinstance(part, Tensor) and part.numel() > 1}
            if shapes - {parameter.shape}:
                return f"its state {name!r} is not shaped like its parameter"
    return None
