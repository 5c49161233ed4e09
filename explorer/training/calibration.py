"""Calibration: measured seconds of a training step at some rates, on one kind of device; budgets in time need it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from pydantic import Field

from explorer.errors import InvalidInput, validated
from explorer.plan import StepCost
from explorer.spec.base import Frozen
from explorer.spec.rates import Rates
from explorer.training.device import device_name
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

SCHEMA = "vit-budget-explorer/calibration"
MEASURED_SECONDS = 3.0
"""How long each rates are measured."""


class StepTime(Frozen):
    """One measurement."""

    rates: Rates
    """As requested."""
    seconds: float = Field(gt=0, allow_inf_nan=False)


class Calibration(Frozen):
    """What was measured, and what for."""

    device: str
    """The GPU's name, or `cpu`."""
    threads: int
    """Torch threads on the CPU."""
    task: dict[str, Any]
    """What a step's time depends on: model and classes, staging, the recipe but for length and learning rate, the data but for
    where they lie."""
    versions: dict[str, str]
    steps: tuple[StepTime, ...]

    @classmethod
    def measure(cls, task: Task, rates: Iterable[Rates], device: str, *, seconds: float = MEASURED_SECONDS) -> Calibration:
        """Measure every rates for so many seconds, one after the other.

        Raises:
            InvalidInput: when the model cannot have some rates.
        """
        steps = [StepTime(rates=each, seconds=step_seconds(task, each, device, seconds)) for each in dict.fromkeys(rates)]
        here = {"device": device_name(device), "threads": torch.get_num_threads(), "versions": _versions(), "task": _task(task)}
        return cls(steps=tuple(steps), **here)

    def save(self, path: str | Path) -> Path:
        """Write JSON.

        Raises:
            InvalidInput: when the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"schema": SCHEMA, **self.model_dump(mode="json")}, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidInput("calibration", str(path), f"cannot be written: {error}") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """The inverse of `save`.

        Raises:
            InvalidInput: when the file is missing or is no calibration.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput("calibration", str(path), f"cannot be read: {error}") from None
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise InvalidInput("calibration", str(path), f"is not what `explorer calibrate` writes (schema {SCHEMA})")
        return validated(cls, content, str(path))

    def step_cost(self, task: Task, device: str) -> Callable[[Rates], StepCost]:
        """The task's counted costs, with measured seconds where there are any.

        Raises:
            InvalidInput: when it was measured on another device, with other versions, or for another task.
        """
        here = {"device": device_name(device), "threads": torch.get_num_threads(), **_versions(), **_task(task)}
        measured = {"device": self.device, "threads": self.threads, **self.versions, **self.task}
        for field, value in here.items():
            if field == "threads" and device != "cpu":
                continue
            if measured.get(field) != value:
                raise InvalidInput("calibration", field, f"was measured with {measured.get(field)!r}, and this is {value!r}")
        seconds = {step.rates: step.seconds for step in self.steps}

        def cost(rates: Rates) -> StepCost:
            counted = task.step_cost(rates)
            return StepCost(counted.rates, counted.flops, seconds.get(rates))

        return cost


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "timm": timm.__version__}


def _task(task: Task) -> dict[str, Any]:
    """All of the task but what leaves a step's time alone."""
    recipe = task.spec.recipe.model_dump(mode="json", exclude={"epochs", "learning_rate", "lr_schedule", "weight_decay"})
    splits = {"root", "train_split", "validation_split", "test_split"}
    return {
        "model": task.spec.model.model_dump(mode="json", exclude={"pretrained"}),
        "classes": task.data.classes,
        "staging": task.spec.staging.model_dump(),
        **recipe,
        **{f"data.{name}": value for name, value in task.spec.data.model_dump(mode="json", exclude=splits).items()},
    }
