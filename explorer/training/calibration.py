"""Calibration: seconds of a training step, measured at several rates on one kind of device. Budgets in time need it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from pydantic import Field

from explorer.differences import first_difference
from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.paths import expanded
from explorer.segment import StepCost
from explorer.spec.base import Frozen
from explorer.spec.rates import Rates
from explorer.spec.task import TaskSpec
from explorer.training.device import device_name
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

SCHEMA = "vit-budget-explorer/calibration"
MEASURED_SECONDS = 3.0
"""How long each of the rates is measured."""
UNRELATED_TO_STEP_TIME = (
    "model.pretrained",
    "recipe.epochs",
    "recipe.learning_rate",
    "recipe.lr_schedule",
    "recipe.weight_decay",
    "data.root",
    "data.train_split",
    "data.validation_split",
    "data.test_split",
    "data.cache.folder",
)
"""Fields of a task that do not change the time of a step."""


class StepTime(Frozen):
    """One measurement."""

    rates: Rates
    """Requested rates."""
    seconds: float = Field(gt=0, allow_inf_nan=False)
    """Mean seconds of a training step."""


class Setting(Frozen):
    """What step times depend on besides the rates."""

    device: str
    """The GPU's name, or `cpu`."""
    threads: int
    """Torch threads on the CPU."""
    versions: dict[str, str]
    """Versions of torch and timm."""
    classes: int
    """Number of classes of the data."""
    task: TaskSpec
    """The task. Some of its fields do not matter: see `UNRELATED_TO_STEP_TIME`."""

    @classmethod
    def of(cls, task: Task, device: str) -> Setting:
        """The setting of a task on a device of this machine."""
        return cls(
            device=device_name(device),
            threads=torch.get_num_threads(),
            versions={"torch": torch.__version__, "timm": timm.__version__},
            classes=task.data.classes,
            task=task.spec,
        )


class Calibration(Frozen):
    """Measured step times, and the setting in which they were measured."""

    setting: Setting
    steps: tuple[StepTime, ...]

    @classmethod
    def measure(cls, task: Task, rates: Iterable[Rates], device: str, *, seconds: float = MEASURED_SECONDS) -> Calibration:
        """Measure all rates, one after another.

        Args:
            task: model, data and recipe.
            rates: requested rates; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of the rates.

        Raises:
            InvalidInput: when the model cannot have some of the rates.
        """
        steps = [StepTime(rates=each, seconds=step_seconds(task, each, device, seconds)) for each in dict.fromkeys(rates)]
        return cls(setting=Setting.of(task, device), steps=tuple(steps))

    def save(self, path: str | Path) -> Path:
        """Write a JSON file.

        Raises:
            InvalidInput: when the file cannot be written.
        """
        content = {"schema": SCHEMA, **self.model_dump(mode="json")}
        try:
            return write_file(expanded(path, "calibration"), json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise InvalidInput("calibration", str(path), f"cannot be written: {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises:
            InvalidInput: when the file is missing or is not a calibration.
        """
        try:
            content = json.loads(Path(expanded(path, "calibration")).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput("calibration", str(path), f"cannot be read: {error}") from None
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise InvalidInput("calibration", str(path), f"is not a file that `explorer calibrate` wrote (schema {SCHEMA})")
        return validated(cls, content, str(path))

    def step_cost(self, task: Task, device: str) -> Callable[[Rates], StepCost]:
        """The cost function of a task: counted FLOPs, with measured seconds at the rates that were measured.

        Raises:
            InvalidInput: when the calibration was measured on another device, with other versions, or for another task; it
                names the first setting that differs.
        """
        ignored = UNRELATED_TO_STEP_TIME if device == "cpu" else (*UNRELATED_TO_STEP_TIME, "threads")
        difference = first_difference(_flat(self.setting), _flat(Setting.of(task, device)), ignored)
        if difference is not None:
            reason = f"was measured with {difference.before!r}, and this is {difference.after!r}"
            raise InvalidInput("calibration", difference.field, reason)
        seconds = {step.rates: step.seconds for step in self.steps}

        def cost(rates: Rates) -> StepCost:
            counted = task.step_cost(rates)
            return replace(counted, seconds=seconds.get(rates))

        return cost


def _flat(setting: Setting) -> dict[str, object]:
    """A setting as nested data, with the task's sections at the top level: differences are then named as in task files."""
    content = setting.model_dump(mode="json")
    task = content.pop("task")
    return {**content, **task}
