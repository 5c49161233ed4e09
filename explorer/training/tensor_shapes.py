"""Comparison of the tensors in a file with those of a model."""

from __future__ import annotations

import re
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


def early_stage_clause(in_file: Shapes, in_model: Shapes) -> str:
    """That weights look like those of an early stage of a schedule: a part of the model, with fewer heads, channels or blocks.

    Releases before StagedTraining wrote checkpoints at full size only, and loops that do not use `at_full_size`, save these.

    Returns:
        A clause that begins with a semicolon; empty if anything differs in another way: a stage reduces one axis of a tensor
        within a block, or leaves out whole blocks.
    """
    narrower, missing_blocks = [], dict[str, None]()
    blocks_in_file = {match[0] for name in in_file for match in [_BLOCK.match(name)] if match}
    if not in_file.keys() <= in_model.keys():
        return ""
    for name, expected in in_model.items():
        shape, block = in_file.get(name), _BLOCK.match(name)
        if shape == expected:
            continue
        if block is None:
            return ""
        if shape is not None:
            pairs = list(zip(shape, expected, strict=False))
            if len(shape) != len(expected) or sum(a != b for a, b in pairs) != 1 or any(a > b for a, b in pairs):
                return ""
            narrower.append(name)
        elif block[0] in blocks_in_file or not any(each.startswith(block[1]) for each in blocks_in_file):
            return ""
        else:
            missing_blocks[block[0].removesuffix(".")] = None
    parts = [f"{len(narrower)} tensors are narrower"] if narrower else []
    parts += [f"{', '.join(missing_blocks)} are missing"] if missing_blocks else []
    if not parts:
        return ""
    return (
        f"; only parts of blocks differ ({' and '.join(parts)}), as in an early stage of a schedule: if it was saved there by "
        "an early release, or outside of StagedTraining.at_full_size(), the rest of the weights is not in this file; use a "
        "checkpoint of the last stage"
    )


_BLOCK = re.compile(r"((?:[A-Za-z_]\w*\.)*?[A-Za-z_]*?)\d+\.(?:[A-Za-z_]+\.\d+\.)*")
"""The block of a tensor, such as `layers.0.blocks.1.`, and the prefix of its siblings."""
