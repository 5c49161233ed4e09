"""Optimizers that a search compares, and the scale of learning rate and weight decay of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from explorer.spec.base import Settings

LION_SCALE = 0.1
"""Learning rate of Lion over that of AdamW: between a third and a tenth, with weight decay as much larger (Chen et al.,
"Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, section 5)."""


class OptimizerChoice(Settings):
    """The optimizer of a trial, where a search compares several."""

    name: str
    """Name of the optimizer."""
    weight_decay: float
    """Its weight decay."""


def _with_scales(given: Any) -> Any:
    """A list of names as a mapping to scales."""
    if isinstance(given, str | Mapping) or not isinstance(given, list | tuple):
        return given
    names = [str(name) for name in given]
    if len(set(names)) < len(names):
        raise ValueError(f"{names} must not contain a value twice")
    return {name: LION_SCALE if "lion" in name else 1.0 for name in names}


OptimizerScales = Annotated[
    dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(_with_scales),
]
"""Names of optimizers, and their learning rates over that of the recipe's optimizer."""
