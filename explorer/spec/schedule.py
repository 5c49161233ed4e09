"""Schedules: the artifact people keep. Pure data, knows no epochs, data set or model.

A schedule is a sequence of stages; each holds activation rates for a share of the budget, and the last
one is the full model (Budgeted Training for Vision Transformer, ICLR 2023, abstract: the budget is met
"by adjusting the duration on each level of model complexity").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.spec.base import Frozen, read_mapping
from explorer.spec.provenance import Provenance
from explorer.spec.rates import Rates

SCHEMA = "vit-budget-explorer/schedule"
VERSION = 2


class Stage(Frozen):
    """Rates, held for a share of the budget."""

    rates: Rates
    duration_ratio: float = Field(ge=0, le=1)
    """Share of the budget (of its cost, not of steps or epochs)."""


class Schedule(Frozen):
    """Stages in order, from the smallest activation rates to the full model.

    Raises:
        ValueError: (pydantic's ValidationError) when the duration ratios do not sum to 1, a rate falls
            from one stage to the next, the last stage is not the full model or has no duration.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    grid: int = Field(20, ge=1, le=1000)
    """Stage durations are whole multiples of 1/grid of the budget; other ratios are rounded to it."""
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        total = sum(stage.duration_ratio for stage in self.stages)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"stages: the duration_ratios sum to {total:.6g} and must sum to 1")
        for number, (before, after) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            if not before.rates.at_most(after.rates):
                raise ValueError(f"stages.{number}.rates: {after.rates} after {before.rates}: rates must not fall")
        last = self.stages[-1]
        if not last.rates.full:
            raise ValueError(f"stages: the last stage has {last.rates}, but must be the full model (rates 1)")
        if last.duration_ratio <= 0:
            raise ValueError("stages: the last stage, the full model, must have a duration_ratio above 0")
        if len(self.stages) > self.grid:
            raise ValueError(f"grid: {len(self.stages)} stages do not fit on {self.grid} grid units")
        return self

    @classmethod
    def full_model(cls, grid: int = 20) -> Schedule:
        """The baseline: the full model for the whole budget."""
        return cls(stages=(Stage(rates=Rates(), duration_ratio=1.0),), grid=grid)

    def units(self) -> tuple[int, ...]:
        """Duration of each stage in whole grid units, summing to `grid`, at least one for the last stage.

        Rounded by largest remainder, so that no stage is off by a whole unit.
        """
        exact = [stage.duration_ratio * self.grid for stage in self.stages]
        # Ratios written with six digits are meant to lie on the grid: 0.333333 * 3 is one unit, not zero.
        units = [int(value + 1e-5) for value in exact]
        if units[-1] == 0:
            units[-1] = 1
        left = self.grid - sum(units)
        if left < 0:  # every other ratio was on the grid already
            units[units.index(max(units))] -= 1
        by_remainder = sorted(range(len(exact)), key=lambda i: (units[i] - exact[i], i))
        for i in by_remainder[: max(0, left)]:
            units[i] += 1
        return tuple(units)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or YAML, with schema name and version."""
        return {"schema": SCHEMA, "version": VERSION, **self.model_dump(mode="json", exclude_none=True)}

    @classmethod
    def from_dict(cls, data: object, source: str = "schedule") -> Schedule:
        """The inverse of `to_dict`.

        Raises:
            InvalidInput: when `data` is not a schedule, is of another version, or breaks a rule.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise InvalidInput(f"{source}: schema", found, f"not a schedule file; it must say {SCHEMA!r}")
        if data.get("version") != VERSION:
            raise InvalidInput(f"{source}: version", data.get("version"), f"this release reads version {VERSION}")
        return validated(cls, {k: v for k, v in data.items() if k not in ("schema", "version")}, source)

    def save(self, path: str | Path) -> Path:
        """Write JSON, or YAML where the name ends in .yaml or .yml."""
        as_yaml = Path(path).suffix in (".yaml", ".yml")
        content = self.to_dict()
        text = yaml.safe_dump(content, sort_keys=False) if as_yaml else json.dumps(content, indent=2) + "\n"
        return write_file(path, text)

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Read a file that `save` or a person wrote.

        Raises:
            InvalidInput: when the file is missing, unreadable or not a schedule.
        """
        return cls.from_dict(read_mapping(path), str(path))
