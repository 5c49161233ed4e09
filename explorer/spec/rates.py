"""Activation rates: which fraction of each axis of a model takes part in a training step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from explorer.spec.base import Frozen

AXES = ("heads", "mlp", "tokens", "depth")
Axis = Literal["heads", "mlp", "tokens", "depth"]


class Rates(Frozen):
    """Activation rates: the fraction in (0, 1] of each axis that takes part in a training step."""

    heads: float = Field(1.0, gt=0, le=1)
    """Attention heads."""
    mlp: float = Field(1.0, gt=0, le=1)
    """MLP hidden channels."""
    tokens: float = Field(1.0, gt=0, le=1)
    """Patch tokens."""
    depth: float = Field(1.0, gt=0, le=1)
    """Blocks."""

    @property
    def full(self) -> bool:
        """True when every axis is at 1: the unchanged model."""
        return all(getattr(self, axis) == 1 for axis in AXES)

    def at_most(self, other: Rates) -> bool:
        """True when no axis is above `other`'s."""
        return all(getattr(self, axis) <= getattr(other, axis) for axis in AXES)

    def __str__(self) -> str:
        values = {axis: f"{getattr(self, axis):.3g}" for axis in AXES}
        depth = values.pop("depth")  # few models and schedules have it; said where it counts
        same = len(set(values.values())) == 1
        text = f"all {values['heads']}" if same else " ".join(f"{axis} {value}" for axis, value in values.items())
        return text if self.depth == 1 else f"{text} depth {depth}"


def shown_axes(rates: Iterable[Rates]) -> tuple[Axis, ...]:
    """The axes worth a column or a row: depth only where some stage reduces it."""
    reduced = any(each.depth < 1 for each in rates)
    return tuple(axis for axis in AXES if axis != "depth" or reduced)  # type: ignore[misc]
