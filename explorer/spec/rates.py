"""Activation rates: how much of each axis of a model is active in a training step.

A rate is a fraction of the full model, or a number of heads, channels, tokens or blocks. A pyramid may have one rate for each
of its levels. Fractions mean the same for every model; numbers and lists are checked where a schedule is compiled for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Annotated, Literal, TypeGuard, get_args

from pydantic import BeforeValidator

from explorer.spec.base import Settings

Axis = Literal["heads", "mlp", "tokens", "depth"]
AXES: tuple[Axis, ...] = get_args(Axis)

Rate = float | int | tuple[float, ...] | tuple[int, ...]
"""A fraction in (0, 1] (`float`), a number of at least 2 (`int`), or one of these for each level; never a mixture."""
ALLOWED = "must be a fraction in (0, 1], or a whole number of at least 2 that says how many are active"
LEVELS_ALLOWED = "must be a list of fractions in (0, 1], or of whole numbers above 0, with one for each level"


def parse_rate(value: object) -> float | int:
    """One rate: 1 is the full model, larger whole numbers count tokens, blocks, heads or channels.

    Raises:
        ValueError: for anything else.
    """
    number = _number(value, ALLOWED)
    if is_count(number) and number > 1:
        return number
    if 0 < number <= 1:
        return float(number)
    raise ValueError(ALLOWED)


def parse_level_rates(value: object) -> Rate:
    """One rate for all levels, or a list with one for each level.

    In a list, 1 is the full level beside fractions (`[0.5, 1]`), and a single one beside whole numbers (`[1, 1, 2, 2]`).

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, list | tuple):
        return parse_rate(value)
    values = tuple(_number(each, LEVELS_ALLOWED) for each in value)
    if values and all(is_count(each) and each >= 1 for each in values):
        return values
    if not values or not all(0 < each <= 1 for each in values):
        raise ValueError(LEVELS_ALLOWED)
    return 1.0 if min(values) == 1 else tuple(float(each) for each in values)


def _number(value: object, allowed: str) -> float | int:
    """A number as it is; text is read as a number, as pydantic does."""
    if isinstance(value, bool):
        raise ValueError(allowed)
    try:
        if isinstance(value, str):
            return float(value)
        return value if isinstance(value, float) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(allowed) from None


def is_count(value: object) -> TypeGuard[int]:
    """True for a number of heads, channels, tokens or blocks; false for a fraction."""
    return isinstance(value, int)


OneRate = Annotated[float | int, BeforeValidator(parse_rate)]
LevelRates = Annotated[Rate, BeforeValidator(parse_level_rates)]


class Rates(Settings):
    """Activation rates: how much of each axis is active in a training step.

    A rate is a fraction in (0, 1], or a whole number of at least 2, which counts what is active (`tokens=100`). Heads and MLP
    channels may also have a list of fractions, or of whole numbers above 0, with one for each level (`heads=(1, 1, 2, 2)`). A
    level is a run of blocks with equally many heads, or channels; models whose blocks are all alike have one. Which numbers and
    lists a model can have is checked when a schedule is compiled for it.
    """

    heads: LevelRates = 1.0
    """Rate of attention heads."""
    mlp: LevelRates = 1.0
    """Rate of hidden channels of the MLPs."""
    tokens: OneRate = 1.0
    """Rate of patch tokens; in a pyramid, of the tokens of its first level."""
    depth: OneRate = 1.0
    """Rate of blocks."""

    @property
    def full(self) -> bool:
        """True when every rate is 1: the full model."""
        return not any(self.reduces(axis) for axis in AXES)

    def reduces(self, axis: Axis) -> bool:
        """True unless the rate of an axis is 1."""
        return bool(getattr(self, axis) != 1)

    def at_most(self, other: Rates) -> bool:
        """True when no rate is above that of `other`.

        Raises:
            ValueError: when a fraction and a number, or lists of different length, are to be compared.
        """
        return all(_at_most(axis, getattr(self, axis), getattr(other, axis)) for axis in AXES)

    def text(self, axis: Axis) -> str:
        """The rate of an axis as text: `0.5`, `2`, `[1,1,2,2]`."""
        rate: Rate = getattr(self, axis)
        return f"[{','.join(_shown(each) for each in rate)}]" if isinstance(rate, tuple) else _shown(rate)

    def __str__(self) -> str:
        values = {axis: self.text(axis) for axis in AXES}
        depth = values.pop("depth")  # few schedules reduce it: shown only where it is below 1
        plain = all(isinstance(getattr(self, axis), float) for axis in values)
        equal = plain and len(set(values.values())) == 1
        text = f"all {values['heads']}" if equal else " ".join(f"{axis} {value}" for axis, value in values.items())
        return f"{text} depth {depth}" if self.reduces("depth") else text


def _shown(value: float) -> str:
    return str(value) if is_count(value) else f"{value:.3g}"


def _at_most(axis: Axis, rate: Rate, other: Rate) -> bool:
    """Whether a rate is at most another one, in every level."""
    if other == 1:
        return True
    if rate == 1:
        return False
    mine, others = rate if isinstance(rate, tuple) else (rate,), other if isinstance(other, tuple) else (other,)
    if is_count(mine[0]) != is_count(others[0]):
        raise ValueError(f"rates.{axis}: a fraction and a number cannot be compared; write both stages in the same way")
    if len(mine) != len(others) and 1 not in (len(mine), len(others)):
        raise ValueError(f"rates.{axis}: {len(mine)} levels cannot be compared with {len(others)}")
    levels = max(len(mine), len(others))
    mine, others = (each * levels if len(each) == 1 else each for each in (mine, others))
    return all(before <= after for before, after in zip(mine, others, strict=True))


def shown_axes(rates: Iterable[Rates]) -> tuple[Axis, ...]:
    """The axes to show in tables and figures: depth only if one of the rates reduces it."""
    depth_reduced = any(each.reduces("depth") for each in rates)
    return tuple(axis for axis in AXES if axis != "depth" or depth_reduced)
