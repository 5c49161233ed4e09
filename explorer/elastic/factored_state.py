"""Second moments of Adafactor, which are means over the rows and over the columns of a parameter instead of a value per weight.

Which two dimensions of a parameter are factored, and whether any are, depends on its size. The factors follow the parameter
when it is resized, and a stage change brings them into the form that the optimizer expects at the new size.

Adafactor is from Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML 2018, arXiv
1804.04235; timm has it as `Adafactor` and, as in big_vision, as `AdafactorBigVision`.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from timm.optim import Adafactor, AdafactorBigVision
from torch import Tensor
from torch.optim import Optimizer

from explorer.elastic.internals import factored_dims
from explorer.elastic.pattern import Indices

WHOLE = "exp_avg_sq"
"""Name of the second moments of a parameter that is not factored."""
ROW_AND_COLUMN: dict[type[Optimizer], tuple[str, str]] = {
    Adafactor: ("exp_avg_sq_row", "exp_avg_sq_col"),
    AdafactorBigVision: ("exp_avg_sq_r", "exp_avg_sq_c"),
}
"""For each class, the names of the means over the last factored dimension and over the first one."""
FACTORS = frozenset(name for names in ROW_AND_COLUMN.values() for name in names)
"""Names of all factors."""


def is_factored(optimizer: Optimizer) -> bool:
    """Whether an optimizer may keep its second moments in factors."""
    return type(optimizer) in ROW_AND_COLUMN


def averaged_dim(optimizer: Optimizer, parameter: Tensor, name: str, size: torch.Size) -> int | None:
    """The dimension of a parameter over which a state is a mean; `None` for a state that is no factor.

    Args:
        optimizer: the optimizer.
        parameter: the parameter.
        name: name of the state.
        size: size of the parameter for which the state was made.
    """
    dims = _dims(optimizer, parameter, size) if name in FACTORS and is_factored(optimizer) else None
    if dims is None:
        return None
    row, _ = ROW_AND_COLUMN[type(optimizer)]
    return dims[1] if name == row else dims[0]


def state_size(optimizer: Optimizer, size: torch.Size, averaged: int | None) -> torch.Size:
    """The size of a state of a parameter of a certain size, if it is a mean over a dimension (`None`: over none)."""
    if averaged is None:
        return size
    return torch.Size((*size[:averaged], *_single(optimizer), *size[averaged + 1 :]))


def state_indices(optimizer: Optimizer, indices: Indices, averaged: int | None) -> Indices:
    """Positions along each dimension of a state, from those along each dimension of its parameter; as `state_size`."""
    if averaged is None or averaged >= len(indices):
        return indices
    return (*indices[:averaged], *(None for _ in _single(optimizer)), *indices[averaged + 1 :])


def fit_factors(
    optimizer: Optimizer, parameter: Tensor, size: torch.Size, kept: MutableMapping[tuple[Tensor, str], Tensor]
) -> None:
    """Bring the second moments of a resized parameter into the form that the optimizer expects at its present size.

    Where the form stays the same, nothing is changed. Rows and columns may change places; otherwise the factors are multiplied,
    or means are taken. What was kept of inactive entries in another form is dropped: they start from the mean when they grow.

    Args:
        optimizer: the optimizer.
        parameter: the parameter at its present size; its states have this size too.
        size: size of the parameter for which the states were made.
        kept: full-width values of reduced tensors; updated in place.
    """
    state = optimizer.state.get(parameter)
    if not state or not is_factored(optimizer):
        return
    before, after = _dims(optimizer, parameter, size), _dims(optimizer, parameter, parameter.shape)
    if before == after:
        return
    row, column = ROW_AND_COLUMN[type(optimizer)]
    if before and after and before == after[::-1]:
        state[row], state[column] = state[column], state[row]
        whole_row, whole_column = kept.pop((parameter, row), None), kept.pop((parameter, column), None)
        for name, whole in ((row, whole_column), (column, whole_row)):
            if whole is not None:
                kept[parameter, name] = whole
        return
    squares = _product(optimizer, state, before) if before else state[WHOLE]
    for name in (row, column, WHOLE):
        state.pop(name, None)
        kept.pop((parameter, name), None)
    if after is None:
        state[WHOLE] = squares
    else:
        state[row] = squares.mean(dim=after[1], keepdim=bool(_single(optimizer)))
        state[column] = squares.mean(dim=after[0], keepdim=bool(_single(optimizer)))


def _single(optimizer: Optimizer) -> tuple[int, ...]:
    """The size that is left of a dimension that a factor is a mean over: 1 or nothing."""
    return (1,) if isinstance(optimizer, AdafactorBigVision) else ()


def _product(optimizer: Optimizer, state: dict[str, Any], dims: tuple[int, int]) -> Tensor:
    """The second moments that two factors stand for, at the size of their parameter."""
    row, column = (state[name] for name in ROW_AND_COLUMN[type(optimizer)])
    if not _single(optimizer):
        row, column = row.unsqueeze(dims[1]), column.unsqueeze(dims[0])
    return row / row.mean(dim=dims[0], keepdim=True) * column


def _dims(optimizer: Optimizer, parameter: Tensor, size: torch.Size) -> tuple[int, int] | None:
    """The two dimensions that are factored at a size of a parameter; `None` if none are."""
    group = next(group for group in optimizer.param_groups if any(parameter is each for each in group["params"]))
    return factored_dims(optimizer, group, size)
