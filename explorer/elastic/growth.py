"""Growth initialization: the values that newly active entries of weights and optimizer states start from.

Growth that preserves the function is from Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer",
ICLR 2016, arXiv 1511.05641. This project's own variant sets the input columns of the following layer to zero: new heads and
channels are computed, but their results are not used until training changes these columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explorer.elastic.pattern import Indices

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})
"""Names of running means of squared gradients in the states of torch's and timm's optimizers."""


def zero_new_inputs(weight: Tensor, old: Indices, new: Indices) -> None:
    """Set the input columns of newly active heads or channels to zero, in place, so that the layer's output does not change.

    Args:
        weight: (outputs, inputs, ...), already at its new size.
        old: along each dimension, the positions in the full tensor that were active before.
        new: along each dimension, the positions in the full tensor that are active now.
    """
    for dim, positions in _new_positions(old, new).items():
        if dim > 0:
            weight[(slice(None),) * dim + (positions.to(weight.device),)] = 0


def initialize_moments(state: Tensor, before: Tensor, old: Indices, new: Indices) -> None:
    """Set second moments of newly active entries to the mean of those that were active before, in place.

    Adam divides by the root of the second moment, and corrects its initial zero by the step count of the whole parameter.
    Late in training, an entry whose moments start from zero would therefore make a first step of about (1 - beta1) / sqrt(1 -
    beta2) = 3.2 learning rates. Entries whose moment is not zero were trained before and keep it.

    Args:
        state: the second moments, already at their new size.
        before: the second moments at the old size.
        old: along each dimension, the positions in the full tensor that were active before.
        new: along each dimension, the positions in the full tensor that are active now.
    """
    new_positions = _new_positions(old, new)
    if not new_positions or not before.any():
        return
    resized_dims = [dim for dim, index in enumerate(old) if index is not None]
    mean = before.mean(dim=resized_dims, keepdim=True)
    newly_active = torch.zeros_like(state, dtype=torch.bool)
    for dim, positions in new_positions.items():
        newly_active[(slice(None),) * dim + (positions.to(state.device),)] = True
    state.copy_(torch.where(newly_active & (state == 0), mean, state))


def _new_positions(old: Indices, new: Indices) -> dict[int, Tensor]:
    """For each dimension that grew, the positions in the resized tensor that were not active before, int64."""
    positions_by_dim = {}
    for dim, (before, after) in enumerate(zip(old, new, strict=True)):
        if before is not None and after is not None:
            positions = (~torch.isin(after, before)).nonzero().flatten()
            if len(positions):
                positions_by_dim[dim] = positions
    return positions_by_dim
