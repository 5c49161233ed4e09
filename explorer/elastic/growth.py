"""Growth initialization: the values that newly active entries of weights and optimizer states start from.

Copies of active entries with an optimizer state of zero are the growth of "Budgeted Training for Vision Transformer", ICLR
2023 (its Table 11). Growth that preserves the function is from Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via
Knowledge Transfer", ICLR 2016, arXiv 1511.05641: copies whose output columns are divided by the number of copies. This
project's own variant sets these columns to zero: new heads and channels are computed, but their results are not used until
training changes the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from explorer.elastic.factored_state import FACTORS
from explorer.elastic.pattern import Indices

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "exp_avg_var", "max_exp_avg_var", "square_avg"}) | FACTORS
"""Names of running means of squared gradients in the states of torch's and timm's optimizers."""


def sources(before: Tensor, after: Tensor, order: Tensor, keeps_own: Tensor) -> Tensor:
    """Which head or channel each active one starts from: new ones are copies of those that were active, in turn.

    With heads 0 and 1 of six active before and four after, heads 2 and 3 are copies of 0 and 1; with six after that, heads 4
    and 5 are copies of 0 and 1 again. Part 1 of the channels is copied into part 2, and both into parts 3 and 4.

    In one growth each is copied once: two copies of one source would have equal weights and equal states, and never part. If
    more than twice as many become active, the others start from the model's own initialization, as without copies.

    Args:
        before: numbers of those that were active, int64 (count before,).
        after: numbers of those that are active now, int64 (count after,).
        order: all numbers in the order in which they become active, int64 (total,).
        keeps_own: which numbers start from their own values in any case, bool (total,).

    Returns:
        For each number in `after`, its own number or that of its source, int64 (count after,).
    """
    was_active = torch.isin(order, before)
    to_copy = order[was_active]
    new = order[~was_active & torch.isin(order, after) & ~keeps_own[order]][: len(to_copy)]
    source_of = torch.arange(len(order), device="cpu")
    source_of[new] = to_copy[: len(new)]
    return source_of[after]


def divide_by_copies(weight: Tensor, source: Indices, input_dims: Sequence[int]) -> None:
    """Divide the input columns of a weight by the number of entries with the same source, in place.

    A sum over an entry and its copies is then what the entry alone contributed before.

    Args:
        weight: at its new size.
        source: along each dimension, for each entry, the position that it was copied from.
        input_dims: the dimensions that are inputs.
    """
    for dim in input_dims:
        positions = source[dim]
        if positions is not None:
            _, inverse, counts = positions.unique(return_inverse=True, return_counts=True)
            shape = [-1 if other == dim else 1 for other in range(weight.ndim)]
            weight /= counts[inverse].view(shape).to(weight)


def reset_copies(state: Tensor, start: Tensor | float, source: Indices, new: Indices) -> None:
    """Set the optimizer state of copied entries to what it starts from, in place, so that copies diverge from their sources.

    With equal weights and equal states, a copy would get the same updates for ever.

    Args:
        state: at its new size.
        start: what the state starts from, mostly zero; a tensor has the size of the state.
        source: along each dimension, for each entry, the position that it was copied from.
        new: along each dimension, the entries' own positions.
    """
    for dim, (copied_from, own) in enumerate(zip(source, new, strict=True)):
        if copied_from is not None and own is not None:
            _fill(state, dim, (copied_from != own).nonzero().flatten(), start)


def zero_new_inputs(weight: Tensor, old: Indices, new: Indices, input_dims: Sequence[int]) -> None:
    """Set the input columns of newly active heads or channels to zero, in place, so that the layer's output does not change.

    Args:
        weight: already at its new size.
        old: along each dimension, the positions in the full tensor that were active before.
        new: along each dimension, the positions in the full tensor that are active now.
        input_dims: the dimensions that are inputs.
    """
    for dim, positions in _new_positions(old, new).items():
        if dim in input_dims:
            _fill(weight, dim, positions, 0)


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


def initialize_weight_state(state: Tensor, weight: Tensor, old: Indices, new: Indices) -> None:
    """Set a state that starts from the weights to them in newly active entries, in place; see `WEIGHT_STATES`.

    Entries whose state is not zero were trained before and keep it.

    Args:
        state: at its new size.
        weight: the parameter at its new size.
        old: along each dimension, the positions in the full tensor that were active before.
        new: along each dimension, the positions in the full tensor that are active now.
    """
    started = torch.where(state == 0, weight, state)
    for dim, positions in _new_positions(old, new).items():
        _fill(state, dim, positions, started)


def newly_initialized(model: nn.Module) -> bool:
    """Whether a model has its initial weights: in each of its norms, the weights of all features are equal.

    Every norm of timm starts from a constant, and the first training step changes it for each feature differently. A model
    without norms counts as trained, so that nothing is overwritten by mistake.
    """
    weights = list(norm_weights(model))
    return bool(weights) and all(bool((weight == weight[0]).all()) for weight in weights)


def norm_weights(model: nn.Module) -> Iterator[Tensor]:
    """The weights of a model's norms, one for each feature."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower() and isinstance(weight, Tensor) and weight.ndim == 1:
            yield weight


def _fill(tensor: Tensor, dim: int, positions: Tensor, value: Tensor | float) -> None:
    """Set the entries of a tensor at positions along a dimension to a number, or to those of another tensor of its size."""
    positions = positions.to(tensor.device)
    if isinstance(value, Tensor):
        tensor.index_copy_(dim, positions, value.index_select(dim, positions).to(tensor.dtype))
    else:
        tensor.index_fill_(dim, positions, value)


def _new_positions(old: Indices, new: Indices) -> dict[int, Tensor]:
    """For each dimension that grew, the positions in the resized tensor that were not active before, int64."""
    positions_by_dim = {}
    for dim, (before, after) in enumerate(zip(old, new, strict=True)):
        if before is not None and after is not None:
            positions = (~torch.isin(after, before)).nonzero().flatten()
            if len(positions):
                positions_by_dim[dim] = positions
    return positions_by_dim
