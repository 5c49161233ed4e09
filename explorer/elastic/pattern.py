"""Patterns such as `(3 h d) c`: which entries of a tensor belong to the active heads or channels. Pure index arithmetic.

The notation is that of einops, with one addition: a dimension may be a sum, `(m + 3 h d)`, of consecutive parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

Term = tuple[str, ...]
"""Factors of one part of a dimension, outermost first: ('3', 'h', 'd') for `3 h d`."""
Dimension = tuple[Term, ...]
"""The parts of one tensor dimension; most dimensions have one part."""
Indices = tuple[Tensor | None, ...]
"""For each dimension, the selected positions, int64 (count,), or `None` for all of them."""


def parse(pattern: str) -> tuple[Dimension, ...]:
    """Split a pattern into dimensions: `(3 h d) c` -> ((('3', 'h', 'd'),), (('c',),)).

    Raises:
        ValueError: if the pattern has anything but words and groups of words in parentheses.
    """
    parts = re.findall(r"\([^()]*\)|[^\s()]+", pattern)
    if re.sub(r"[\s()+\w]", "", pattern) or pattern.count("(") != pattern.count(")") or not parts:
        raise ValueError(f"not a tensor pattern: {pattern!r}")
    return tuple(tuple(tuple(term.split()) for term in part.strip("()").split("+")) for part in parts)


def active_indices(dimension: Dimension, size: int, counts: Mapping[str, int], active: Mapping[str, Tensor]) -> Tensor | None:
    """Positions along one dimension that belong to the active heads or channels.

    Args:
        dimension: the parts of the dimension.
        size: its size at full width.
        counts: number of heads (`h`) and hidden channels (`m`) at full width.
        active: for each letter, the numbers of the active ones, int64 (k,), ascending.

    Returns:
        int64 positions, ascending within each group, or `None` if no factor of the dimension is resized.

    Raises:
        ValueError: if `size` is not the product of these factors.
    """
    if not any(factor in active for term in dimension for factor in term):
        return None
    known = [[int(f) if f.isdigit() else counts.get(f, 0) for f in term] for term in dimension]
    open_terms = [i for i, sizes in enumerate(known) if 0 in sizes]
    rest = size - sum(prod(sizes) for sizes in known if 0 not in sizes)
    if open_terms:
        sizes = known[open_terms[0]]
        each = prod(s for s in sizes if s)
        if len(open_terms) > 1 or sizes.count(0) > 1 or rest % each or rest <= 0:
            raise _misfit(dimension, size, counts)
        sizes[sizes.index(0)] = rest // each
    elif rest:
        raise _misfit(dimension, size, counts)
    selected, offset = [], 0
    for term, sizes in zip(dimension, known, strict=True):
        positions = torch.arange(offset, offset + prod(sizes), device="cpu").reshape(sizes)
        for place, factor in enumerate(term):
            if factor in active:
                positions = positions.index_select(place, active[factor])
        selected.append(positions.flatten())
        offset += prod(sizes)
    return torch.cat(selected)


def _misfit(dimension: Dimension, size: int, counts: Mapping[str, int]) -> ValueError:
    text = " + ".join(" ".join(term) for term in dimension)
    return ValueError(f"a dimension of {size} is not ({text}) with {', '.join(f'{k} = {v}' for k, v in counts.items())}")


def gather(full: Tensor, indices: Indices) -> Tensor:
    """The part of a tensor at `indices`, as a contiguous copy."""
    for dim, index in enumerate(indices):
        if index is not None:
            full = full.index_select(dim, index.to(full.device))
    return full.contiguous()


def scatter(full: Tensor, part: Tensor, indices: Indices) -> None:
    """Write `part` to the positions `indices` of `full`, in place: the inverse of `gather`. Other entries keep their values."""
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    if not dims:
        full.copy_(part)
        return
    dim, index = dims[0], indices[dims[0]]
    assert index is not None
    index = index.to(full.device)
    if len(dims) > 1:
        rows = full.index_select(dim, index)
        scatter(rows, part, tuple(None if d == dim else i for d, i in enumerate(indices)))
        part = rows
    full.index_copy_(dim, index, part)
