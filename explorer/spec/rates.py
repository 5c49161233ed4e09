"""Activation rates: the fraction of each axis of a model that is active in a training step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import Field

from explorer.spec.base import Frozen

Axis = Literal["heads", "mlp", "tokens", "depth"]
AXES: tuple[Axis, ...] = get_args(Axis)


class Rates(Frozen):
    """Activation rates: the fraction in (0, 1] of each axis that is active in a training step."""

    heads: float = Field(1.0, gt=0, le=1)
    """Rate of attention heads."""
    mlp: float = Field(1.0, gt=0, le=1)
    """Rate of hidden channels of the MLPs."""
    tokens: float = Field(1.0, gt=0, le=1)
    """Rate of patch tokens."""
    depth: float = Field(1.0, gt=0, le=1)
    """Rate of blocks."""

    @property
    def full(self) -> bool:
        """True when every rate is 1: the full model."""
        return all(getattr(self, axis) == 1 for axis in AXES)

    def at_most(self, other: Rates) -> bool:
        """True when no rate is above that of `other`."""
        return all(getattr(self, axis) <= getattr(other, axis) for axis in AXES)

    def __str__(self) -> str:
        values = {axis: f"{getattr(self, axis):.3g}" for axis in AXES}
        depth = values.pop("depth")  # few schedules reduce it: shown only where it is below 1
        equal = len(set(values.values())) == 1
        text = f"all {values['heads']}" if equal else " ".join(f"{axis} {value}" for axis, value in values.items())
        return text if self.depth == 1 else f"{text} depth {depth}"


def shown_axes(rates: Iterable[Rates]) -> tuple[Axis, ...]:
    """The axes to show in tables and figures: depth only if one of the rates reduces it."""
    depth_reduced = any(each.depth < 1 for each in rates)
    return tuple(axis for axis in AXES if axis != "depth" or depth_reduced)
