"""Calibration: seconds of a training step, measured at several rates on one kind of device. Budgets in time need it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import timm
import torch

from explorer.differences import first_difference
from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.paths import expanded
from explorer.segment import StepCost
from explorer.spec.rates import Rates
from explorer.spec.step_times import Setting, StepTime, StepTimeTable
from explorer.training.device import device_name
from explorer.training.step_time import StepTimer, TimedTraining
from explorer.training.step_time_model import MeasuredStep, fitted_model, predicted_seconds
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


STEP_STAGING = ("token_policy",)
"""Settings of `staging` that change the time of a step, and have rows of their own in a table."""
MAX_SCATTER = 0.2
"""Largest scatter of the full model's step times at which they are used: interquartile range over median."""


@dataclass(frozen=True)
class Variant:
    """A step to measure besides those of the recipe: settings that a sweep varies and that change the time of a step."""

    rates: Rates
    batch_size: int
    staging: Mapping[str, str] = field(default_factory=dict)
    """Settings of `staging` that differ from those of the task."""


def setting_of(task: Task, device: str) -> Setting:
    """What the step times of a task on a device of this machine depend on."""
    return Setting(
        device=device_name(device),
        threads=torch.get_num_threads(),
        versions={"torch": torch.__version__, "timm": timm.__version__},
        classes=task.data.classes,
        task=task.spec,
    )


class Calibration(StepTimeTable):
    """Measured step times, and the setting in which they were measured."""

    @classmethod
    def measure(cls, task: Task, rates: Iterable[Rates], device: str, *, seconds: float = MEASURED_SECONDS) -> Calibration:
        """Measure all rates at the task's batch size; see `measure_variants`.

        Args:
            task: model, data and recipe.
            rates: requested rates; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of the rates.

        Raises:
            InvalidInput: when the model cannot have some of the rates, or the step times scatter too much.
        """
        return cls.measure_variants(task, [Variant(each, task.batch_size) for each in rates], device, seconds=seconds)

    @classmethod
    def measure_variants(
        cls,
        task: Task,
        variants: Iterable[Variant],
        device: str,
        *,
        seconds: float = MEASURED_SECONDS,
        max_scatter: float = MAX_SCATTER,
    ) -> Calibration:
        """Measure the full model with the recipe's batch size, and every variant in turn with it.

        Args:
            task: model, data and recipe.
            variants: what to measure; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of them, turns of the full model included.
            max_scatter: largest scatter at which the times are used.

        Raises:
            InvalidInput: when the model cannot have some of the rates, or the step times scatter by more than `max_scatter`.
        """
        setting = setting_of(task, device)
        timer = StepTimer(TimedTraining(task, Rates(), device), seconds)
        own = Variant(Rates(), task.batch_size)
        ratios: dict[tuple[Rates, int, tuple[tuple[str, str], ...]], float] = {}
        for each in variants:
            key = each.rates, each.batch_size, tuple(sorted(each.staging.items()))
            if key in ratios:
                continue
            if (each.rates, each.batch_size, dict(each.staging)) == (own.rates, own.batch_size, {}):
                ratios[key] = 1.0
                continue
            spec = task.spec.with_settings(task.spec.recipe.learning_rate, each.batch_size, each.staging)
            varied = task if spec == task.spec else Task(spec)
            ratios[key] = timer.relative_to_reference(TimedTraining(varied, each.rates, device))
        full_key = own.rates, own.batch_size, ()
        ratios.setdefault(full_key, 1.0)
        full_seconds, (low, high) = timer.seconds, timer.quartiles
        if (scatter := (high - low) / full_seconds) > max_scatter:
            reason = (
                f"step times scatter too much for budgets in time: the quartiles of the full model's are {1000 * low:.3g} and "
                f"{1000 * high:.3g} ms, {scatter:.0%} of the median apart; at most {max_scatter:.0%} is allowed"
            )
            raise InvalidInput("step times", setting.device, reason)
        steps = tuple(
            StepTime(
                rates=rates,
                seconds=ratio * full_seconds,
                batch_size=None if size == task.batch_size else size,
                staging=dict(staging),
            )
            for (rates, size, staging), ratio in ratios.items()
        )
        return cls(setting=setting, steps=steps, scatter=scatter).with_model(task)

    def with_model(self, task: Task) -> Calibration:
        """The same table with a model of the rates that were not measured, fitted to those that were.

        Args:
            task: the task of the table.
        """
        measured = []
        for step in self.steps:
            size = step.batch_size or task.batch_size
            varied = Task(task.spec.with_settings(task.spec.recipe.learning_rate, size, step.staging))
            measured.append(MeasuredStep(varied.step_size(step.rates), size, step.seconds))
        return self.model_copy(update={"model": fitted_model(measured)})

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

    def check(self, task: Task, device: str) -> None:
        """Check that the table is of this device, of these versions, and of this task.

        The batch size and the settings `STEP_STAGING` may differ where the table has rows for those of the task.

        Raises:
            InvalidInput: naming the first setting that differs.
        """
        ignored = UNRELATED_TO_STEP_TIME if device == "cpu" else (*UNRELATED_TO_STEP_TIME, "threads")
        if self.measured(Rates(), *self._varied(task)) is not None:
            ignored = (*ignored, "recipe.batch_size", *(f"staging.{name}" for name in STEP_STAGING))
        difference = first_difference(_flat(self.setting), _flat(setting_of(task, device)), ignored)
        if difference is not None:
            reason = f"was measured with {difference.before!r}, and this is {difference.after!r}"
            raise InvalidInput("calibration", difference.field, reason)

    def step_cost(self, task: Task, device: str | None = None) -> Callable[[Rates], StepCost]:
        """The cost function of a task: counted FLOPs, with seconds as measured, or as the table's model gives them.

        Args:
            task: the task.
            device: the device that will train, which is checked; `None` for a task and device that were checked before.

        Raises:
            InvalidInput: when the table was measured on another device, with other versions, or for another task; it names
                the first setting that differs.
        """
        if device is not None:
            self.check(task, device)
        batch_size, staging = self._varied(task)

        def cost(rates: Rates) -> StepCost:
            seconds = self.measured(rates, batch_size, staging)
            if seconds is None and self.model is not None:
                seconds = predicted_seconds(self.model, task.step_size(rates), batch_size)
            return replace(task.step_cost(rates), seconds=seconds)

        return cost

    def full_seconds(self, task: Task) -> float | None:
        """Device-seconds of full training with the batch size of the table's task; `None` if that step was not measured.

        Args:
            task: gives the number of epochs and images.
        """
        batch_size = self.setting.task.recipe.batch_size
        seconds = self.measured(Rates(), batch_size, {})
        return None if seconds is None else task.epochs * task.train_images / batch_size * seconds

    def _varied(self, task: Task) -> tuple[int, dict[str, str]]:
        """Batch size of a task, and its settings `STEP_STAGING` that differ from those of the table's task."""
        own, given = self.setting.task.staging, task.spec.staging
        different = {name: getattr(given, name) for name in STEP_STAGING if getattr(given, name) != getattr(own, name)}
        return task.batch_size, different


def _flat(setting: Setting) -> dict[str, object]:
    """A setting as nested data, with the task's sections at the top level: differences are then named as in task files."""
    content = setting.model_dump(mode="json")
    task = content.pop("task")
    return {**content, **task}
