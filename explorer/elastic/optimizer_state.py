"""Whether the state of an optimizer can be resized with its parameters, and what it starts from."""

from __future__ import annotations

from collections.abc import Sequence

from timm.optim import RMSpropTF
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

from explorer.elastic.factored_state import averaged_dim

WEIGHT_STATES = frozenset({"x0"})
"""Names of states that start from the weights: the point from which MADGRAD measures its sum of gradients."""

MATRIX_ENTRIES = 64
"""Smallest size of a matrix by which `holds_weights` tells."""
WEIGHTS_SIMILARITY = 0.9
"""Cosine similarity above which a state holds weights. Moments of gradients have about 0 at first."""

SCHEDULE_FREE = (
    "schedule-free optimizers replace the decay of the learning rate, which ends every budget, by an average of their own"
)
"""Why they are refused, as the end of a sentence."""


def as_sequence(optimizers: Optimizer | Sequence[Optimizer] | None) -> Sequence[Optimizer]:
    """One optimizer, several, or none, as a sequence."""
    if optimizers is None:
        return ()
    return (optimizers,) if isinstance(optimizers, Optimizer) else tuple(optimizers)


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


def holds_weights(optimizer: Optimizer, name: str) -> bool:
    """Whether a state holds weights and not moments: after the first steps, it points in the direction of the weights.

    Told by the matrices of at least `MATRIX_ENTRIES` entries: of a norm's weights, which are all equal, moments may point there
    too.

    Args:
        optimizer: the optimizer.
        name: name of the state.
    """
    pairs = [
        (parameter.detach().flatten(), state[name].flatten().to(parameter.dtype))
        for parameter, state in optimizer.state.items()
        if isinstance(state.get(name), Tensor) and state[name].shape == parameter.shape
        if parameter.ndim > 1 and parameter.numel() >= MATRIX_ENTRIES and not parameter.is_meta
    ]
    return bool(pairs) and all(cosine_similarity(weight, value, dim=0) > WEIGHTS_SIMILARITY for weight, value in pairs)


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
    for name in sorted({name for state in optimizer.state.values() for name in state} - WEIGHT_STATES):
        if holds_weights(optimizer, name):
            return f"its state {name!r} holds weights, and nothing says what it starts from where the model grows"
    return None
