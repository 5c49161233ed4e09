"""How entries start that were not active before: their weights, and what an adaptive optimizer knows of them.

Growth that keeps the function: Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016, arXiv 1511.05641; here new heads and channels
compute from the start but are not listened to yet.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from explorer.elastic.pattern import Indices

Growth = Literal["initial", "zero"]
SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})
"""Names of running means of squared gradients in the states of torch's and timm's optimizers."""


def zero_new_inputs(weight: Tensor, old: Indices, new: Indices) -> None:
    """Set the input columns of new heads or channels to zero, in place, so that the layer's output does not change.

    Args:
        weight: (outputs, inputs, ...) at its new size.
        old: positions that were active along each dimension.
        new: positions that are active now.
    """
    for dim, fresh in _fresh(old, new).items():
        if dim > 0:
            weight[(slice(None),) * dim + (fresh.to(weight.device),)] = 0


def initialize_moments(value: Tensor, before: Tensor, old: Indices, new: Indices) -> None:
    """Give new entries the mean second moment of those that were active, in place.

    Adam divides by the root of the second moment and corrects its start from zero by the step count of the whole parameter:
    late in training an entry that starts from zero makes a first step of about (1 - beta1) / sqrt(1 - beta2), three
    learning rates. Entries that have a moment keep it.

    Args:
        value: the state at its new size.
        before: the state as it was.
        old: positions that were active along each dimension.
        new: positions that are active now.
    """
    fresh = _fresh(old, new)
    if not fresh or not before.any():
        return
    cut = [dim for dim, index in enumerate(old) if index is not None]
    mean = before.mean(dim=cut, keepdim=True)
    woken = torch.zeros_like(value, dtype=torch.bool)
    for dim, positions in fresh.items():
        woken[(slice(None),) * dim + (positions.to(value.device),)] = True
    value.copy_(torch.where(woken & (value == 0), mean, value))


def _fresh(old: Indices, new: Indices) -> dict[int, Tensor]:
    """For each dimension that grew, the places in the new tensor that were not active."""
    found = {}
    for dim, (before, after) in enumerate(zip(old, new, strict=True)):
        if before is not None and after is not None:
            fresh = (~torch.isin(after, before)).nonzero().flatten()
            if len(fresh):
                found[dim] = fresh
    return found
