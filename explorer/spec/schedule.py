"""Schedules: the artifact that users keep. Plain data, independent of epochs, data set and model.

A schedule is a sequence of stages. Each stage has activation rates for a fraction of the budget, and the last stage is the full
model ("Budgeted Training for Vision Transformer", ICLR 2023, abstract: the budget is met "by adjusting the duration on each
level of model complexity").
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.paths import expanded
from explorer.spec.augmentation_strength import FULL_STRENGTH, AugmentationStrength
from explorer.spec.base import Settings, read_mapping, without_empty
from explorer.spec.provenance import Provenance
from explorer.spec.rates import Rates
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec

SCHEMA = "vit-budget-explorer/schedule"
VERSION = 2
RATIO_TOLERANCE = 1e-5
"""In grid slots: duration ratios written with six digits are meant to lie on the grid."""
MAX_GRID = 1000
"""Largest number of slots of a budget."""
IN_EPOCHS = "must be shares of the cost (duration_ratio) here: what an epoch costs depends on the task"


class Stage(Settings):
    """Activation rates for a fraction of the budget."""

    rates: Rates
    duration_ratio: float | None = Field(None, ge=0, le=1)
    """Fraction of the budget's cost (not of steps or epochs) that the stage spends; `None` if `epochs` says how long it is."""
    epochs: float | None = Field(None, ge=0)
    """Passes over the training images, as papers write schedules (29, 49 and 50). They become shares of the cost when the
    schedule is compiled for a task and a budget."""
    augmentation: AugmentationStrength = FULL_STRENGTH
    """Strength of augmentation and stochastic depth, as shares of the recipe's."""
    batch_factor: float = Field(1.0, gt=0)
    """Factor on the recipe's batch size. The learning rate stays that of the recipe."""

    @model_validator(mode="after")
    def _check(self) -> Stage:
        if self.duration_ratio is None and self.epochs is None:
            raise ValueError("duration_ratio: this key is required (or epochs)")
        if self.duration_ratio is not None and self.epochs is not None:
            raise ValueError("duration_ratio and epochs: only one of them says how long the stage is")
        return self

    @property
    def share(self) -> float:
        """The duration ratio of a stage that has one.

        Raises:
            InvalidInput: when the stage is written in epochs.
        """
        if self.duration_ratio is None:
            raise InvalidInput("schedule: epochs", self.epochs, IN_EPOCHS)
        return self.duration_ratio

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing: files and keys of stages that are rates and a share alone stay as they were."""
        defaults = {"duration_ratio": None, "epochs": None, "augmentation": FULL_STRENGTH, "batch_factor": 1.0}
        silent = {name for name, value in defaults.items() if getattr(self, name) == value}
        return {name: value for name, value in handler(self).items() if name not in silent}


class Schedule(Settings):
    """Stages in order, from the lowest activation rates to the full model.

    Raises:
        ValidationError: (pydantic's, a `ValueError`) when the duration ratios do not sum to 1, some stages have epochs and
            others have duration ratios, a rate falls from one stage to the next, or the last stage is not the full model with
            the recipe's augmentation and batch size or has no duration.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    """The stages in order."""
    grid: int = Field(20, ge=1, le=MAX_GRID)
    """Number of equal slots of the budget; a duration ratio is rounded to whole slots. Epochs are not rounded."""
    staging: dict[str, str] = {}
    """Settings of `staging` that the schedule was made for, in place of the task's: smaller images (`token_policy: resize`)."""
    provenance: Provenance | None = None
    """Where the schedule comes from; `None` for a schedule written by hand."""

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if len({stage.epochs is None for stage in self.stages}) > 1:
            raise ValueError("stages: all of them must have a duration_ratio, or all of them epochs")
        total = 1.0 if self.in_epochs else sum(stage.share for stage in self.stages)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"stages: the duration_ratios sum to {total:.6g} and must sum to 1")
        for number, (before, after) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            if not before.rates.at_most(after.rates):
                raise ValueError(f"stages.{number}.rates: {after.rates} after {before.rates}: rates must not fall")
        last = self.stages[-1]
        if not last.rates.full:
            raise ValueError(f"stages: the last stage has {last.rates}, but must be the full model (rates 1)")
        if not (last.duration_ratio or last.epochs):
            name = "epochs" if self.in_epochs else "a duration_ratio"
            raise ValueError(f"stages: the last stage, the full model, must have {name} above 0")
        if not last.augmentation.full:
            raise ValueError(
                f"stages: the last stage has augmentation {last.augmentation}, but must have the recipe's own (shares of 1)"
            )
        if last.batch_factor != 1:
            raise ValueError(
                f"stages: the last stage has batch_factor {last.batch_factor:g}, but must have the recipe's batch size (1)"
            )
        if len(self.stages) > self.grid:
            raise ValueError(f"grid: {self.grid} slots cannot hold {len(self.stages)} stages")
        return self

    @field_validator("staging")
    @classmethod
    def _check_staging(cls, staging: dict[str, str]) -> dict[str, str]:
        validated(Staging, staging, "staging")
        return staging

    @model_serializer(mode="wrap")
    def _without_empty_staging(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = handler(self)
        return content if self.staging else {name: value for name, value in content.items() if name != "staging"}

    @property
    def in_epochs(self) -> bool:
        """Whether the stages are written in epochs, and not in shares of the cost."""
        return self.stages[0].epochs is not None

    @classmethod
    def full_model(cls, grid: int = 20) -> Schedule:
        """The baseline: the full model for the whole budget."""
        return cls(stages=(Stage(rates=Rates(), duration_ratio=1.0),), grid=grid)

    @classmethod
    def preset(cls, name: str, model: Any, epochs: Sequence[float] | None = None) -> Schedule:
        """A known-good schedule; `explorer schedules` lists them with their sources.

        Args:
            name: `paper`, `sweep-fractals`, `sweep-digits`, `efficienttrain-like`, `autoprog-like`,
                `timm-progressive-like` or `full`.
            model: name of a timm model, a `ModelSpec`, or a timm model.
            epochs: length of each stage in epochs, such as `(29, 49, 50)`; `None` for the preset's shares of the cost.

        Raises:
            InvalidInput: when there is no such preset, or there are not as many epochs as stages. A model that lacks an axis of
                the schedule is refused where it is compiled.
        """
        from explorer.spec.presets import preset

        return preset(name, model, epochs)

    def slots(self) -> tuple[int, ...]:
        """Duration of each stage in grid slots, which sum to `grid`; the last stage has at least one.

        Rounded by the largest-remainder method, so that no stage is off by a whole slot.

        Raises:
            InvalidInput: when the stages are written in epochs.
        """
        exact = [stage.share * self.grid for stage in self.stages]
        slots = [int(value + RATIO_TOLERANCE) for value in exact]
        if slots[-1] == 0:
            slots[-1] = 1
        left = self.grid - sum(slots)
        if left < 0:  # every other ratio was on the grid already
            slots[slots.index(max(slots))] -= 1
        by_remainder = sorted(range(len(exact)), key=lambda i: (slots[i] - exact[i], i))
        for i in by_remainder[: max(0, left)]:
            slots[i] += 1
        return tuple(slots)

    def digest(self) -> str:
        """SHA-256 of what is trained: stages, grid, and the settings that came with them.

        Defaults are left out, so that later releases with more settings find the same.
        """
        content = self.model_dump(mode="json", include={"stages", "staging"}, exclude_defaults=True) | {"grid": self.grid}
        if self.provenance is not None:
            settings = {"learning_rate", "batch_size", "staging", "lr_schedule", "optimizer"}
            content["settings"] = self.provenance.model_dump(mode="json", include=settings, exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def with_provenance(self, provenance: Provenance) -> Schedule:
        """This schedule with where it comes from, which notes what was trained: a file that is edited is told apart."""
        schedule = self.model_copy(update={"provenance": provenance})
        return self.model_copy(update={"provenance": provenance.model_copy(update={"trained": schedule.digest()})})

    @property
    def was_edited(self) -> bool:
        """Whether stages, grid or settings are others than those that the provenance was measured with."""
        return self.provenance is not None and self.provenance.trained not in (None, self.digest())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or YAML, with the name and version of the schema."""
        return {"schema": SCHEMA, "version": VERSION, **without_empty(self)}

    @classmethod
    def from_dict(cls, data: object, source: str = "schedule") -> Schedule:
        """The inverse of `to_dict`. A task in the provenance that this release cannot read is dropped with a warning.

        Raises:
            InvalidInput: when `data` is not a schedule, has another version, or breaks a rule.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise InvalidInput(f"{source}: schema", schema, f"not a schedule file; it must be {SCHEMA!r}")
        if data.get("version") != VERSION:
            raise InvalidInput(f"{source}: version", data.get("version"), f"this release reads version {VERSION}")
        content = {key: value for key, value in data.items() if key not in ("schema", "version")}
        return validated(cls, _without_unreadable_task(content, source), source)

    def save(self, path: str | Path) -> Path:
        """Write JSON, or YAML if the name ends in .yaml or .yml."""
        as_yaml = Path(path).suffix in (".yaml", ".yml")
        content = self.to_dict()
        text = yaml.safe_dump(content, sort_keys=False) if as_yaml else json.dumps(content, indent=2) + "\n"
        return write_file(expanded(path, "schedule"), text)

    @classmethod
    def load(cls, path: str | Path) -> Schedule:
        """Read a file that `save` or a person wrote.

        Raises:
            InvalidInput: when the file is missing, unreadable or not a schedule.
        """
        return cls.from_dict(read_mapping(path), str(path))


def _without_unreadable_task(content: dict[str, Any], source: str) -> dict[str, Any]:
    """Drop a task that another release wrote: the schedule does not depend on it."""
    provenance = content.get("provenance")
    if not isinstance(provenance, dict) or provenance.get("task") is None:
        return content
    try:
        validated(TaskSpec, provenance["task"], f"{source}: provenance.task")
    except InvalidInput as error:
        warnings.warn(f"the task of this schedule cannot be read and is ignored: {error}", stacklevel=4)
        kept = {key: value for key, value in provenance.items() if key != "task"}
        return {**content, "provenance": kept}
    return content
