"""Patterns such as `(3 h d) c`: which entries of a tensor belong to the active heads or channels. Pure index arithmetic."""

from __future__ import annotations

import re
from math import prod

import torch
from torch import Tensor

Dimension = tuple[str, ...]
"""The factors of one tensor dimension, outermost first: `(3 h d)` is ('3', 'h', 'd')."""


def parse(pattern: str) -> tuple[Dimension, ...]:
    """Split a pattern into dimensions: `(3 h d) c` -> (('3', 'h', 'd'), ('c',)).

    Raises:
        ValueError: when the pattern is not made of words and bracketed groups of words.
    """
    parts = re.findall(r"\([^()]*\)|[^\s()]+", pattern)
    if re.sub(r"[\s()\w]", "", pattern) or pattern.count("(") != pattern.count(")") or not parts:
        raise ValueError(f"not a tensor pattern: {pattern!r}")
    return tuple(tuple(part.strip("()").split()) for part in parts)


def active_indices(dimension: Dimension, size: int, letter: str, count: int, active: Tensor) -> Tensor | None:
    """Positions along one dimension that belong to the active heads or channels.

    Args:
        dimension: factors of the dimension.
        size: its length at full width.
        letter: the factor that is cut, `h` or `m`.
        count: number of heads or channels at full width.
        active: int64 (k,), the active ones, ascending.

    Returns:
        int64 indices, ascending within each group, or None where the dimension does not have the letter.

    Raises:
        ValueError: when `size` cannot be made of these factors.
    """
    if letter not in dimension:
        return None
    known = {factor: int(factor) for factor in dimension if factor.isdigit()} | {letter: count}
    free = [factor for factor in dimension if factor not in known]
    rest, left = divmod(size, prod(known[factor] for factor in dimension if factor in known))
    if left or len(free) > 1 or (not free and rest != 1):
        raise ValueError(f"a dimension of {size} is not ({' '.join(dimension)}) with {letter} = {count}")
    sizes = [known.get(factor, rest) for factor in dimension]
    positions = torch.arange(size).reshape(sizes)
    return positions.index_select(dimension.index(letter), active).flatten()


def gather(full: Tensor, indices: tuple[Tensor | None, ...]) -> Tensor:
    """The sub-tensor at `indices` (one entry a dimension, None for all of it), as a contiguous copy."""
    for dim, index in enumerate(indices):
        if index is not None:
            full = full.index_select(dim, index.to(full.device))
    return full.contiguous()


def scatter(full: Tensor, part: Tensor, indices: tuple[Tensor | None, ...]) -> None:
    """Write `part` to its place in `full`, in place: the inverse of `gather`. Other entries stay."""
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
