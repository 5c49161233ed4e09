"""Comparison of the tensors in a file with those of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor, by name."""


class DifferentTensor(NamedTuple):
    """The first tensor that differs."""

    name: str
    in_file: str
    """`has shape (2, 3)`, or `is missing`."""
    in_model: str
    """The same of the model."""


def first_different_tensor(in_file: Shapes, in_model: Shapes) -> DifferentTensor | None:
    """The first tensor, in the order of the model, that is missing or has another shape; then the first that only the file has.

    Returns:
        `None` if there is none.
    """
    for name in (*in_model, *in_file):
        if in_file.get(name) != in_model.get(name):
            here, there = (f"has shape {each[name]}" if name in each else "is missing" for each in (in_file, in_model))
            return DifferentTensor(name, here, there)
    return None
