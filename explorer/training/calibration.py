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
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.step_time import step_time
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
)
"""Fields of a task that do not change the time of a step."""


class StepTime(Frozen):
    """One measurement."""

    rates: Rates
    """Requested rates."""
    seconds: float = Field(gt=0, allow_inf_nan=False)
    """Mean seconds of a training step, with its input."""
    input_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The part of it that is spent on input. `None` in files of earlier releases."""


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
    processes: int = 1
    """Number of processes that train together, each on a device of its own."""
    task: TaskSpec
    """The task. Some of its fields do not matter: see `UNRELATED_TO_STEP_TIME`."""

    @classmethod
    def of(cls, task: Task, device: str, processes: int = 1) -> Setting:
        """The setting of a task on a device of this machine, or on one in each of several processes."""
        return cls(
            device=device_name(device),
            threads=torch.get_num_threads(),
            versions={"torch": torch.__version__, "timm": timm.__version__},
            classes=task.data.classes,
            processes=processes,
            task=task.spec,
        )

    def check(self, here: Setting, *, other_machine: bool = False) -> None:
        """Check that step times that were measured in this setting are those of another one.

        Args:
            here: the setting of a training.
            other_machine: whether it will train on other machines than this one, which check device and versions themselves.

        Raises:
            InvalidInput: when a step may take another time there; it names the first setting that differs.
        """
        ignored = UNRELATED_TO_STEP_TIME if here.device == "cpu" else (*UNRELATED_TO_STEP_TIME, "threads")
        if other_machine:
            ignored = (*ignored, "device", "versions")
        difference = first_difference(_flat(self), _flat(here), ignored)
        if difference is not None:
            reason = f"was measured with {difference.before!r}, and this is {difference.after!r}"
            raise InvalidInput("calibration", difference.field, reason)


class Calibration(Frozen):
    """Measured step times, and the setting in which they were measured."""

    setting: Setting
    steps: tuple[StepTime, ...]

    @classmethod
    def measure(
        cls,
        task: Task,
        rates: Iterable[Rates],
        device: str,
        *,
        seconds: float = MEASURED_SECONDS,
        processes: Processes = SINGLE_PROCESS,
    ) -> Calibration:
        """Measure all rates, one after another.

        Args:
            task: model, data and recipe.
            rates: requested rates; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of the rates.
            processes: the processes that train together; each of them calls this function.

        Raises:
            InvalidInput: when the model cannot have some of the rates.
        """
        steps = []
        for each in dict.fromkeys(rates):
            step = step_time(task, each, device, seconds, processes)
            steps.append(StepTime(rates=each, seconds=step.seconds, input_seconds=step.input_seconds))
        return cls(setting=Setting.of(task, device, processes.count), steps=tuple(steps))

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

    def step_cost(
        self, task: Task, device: str, processes: int = 1, *, other_machine: bool = False
    ) -> Callable[[Rates], StepCost]:
        """The cost function of a task: counted FLOPs, with measured device-seconds at the rates that were measured.

        A step of several processes costs as many times its seconds, because each has a device of its own.

        Args:
            task: the task.
            device: `cuda` or `cpu`.
            processes: number of processes that train together.
            other_machine: as in `Setting.check`.

        Raises:
            InvalidInput: when the calibration was measured on another device, with other versions or another number of
                processes, or for another task; it names the first setting that differs.
        """
        self.setting.check(Setting.of(task, device, processes), other_machine=other_machine)
        measured = {step.rates: step for step in self.steps}

        def cost(rates: Rates) -> StepCost:
            counted = task.step_cost(rates)
            step = measured.get(rates)
            if step is None:
                return counted
            of_input = None if step.input_seconds is None else processes * step.input_seconds
            return replace(counted, seconds=processes * step.seconds, input_seconds=of_input)

        return cost


def _flat(setting: Setting) -> dict[str, object]:
    """A setting as nested data, with the task's sections at the top level: differences are then named as in task files."""
    content = setting.model_dump(mode="json")
    task = content.pop("task")
    return {**content, **task}
