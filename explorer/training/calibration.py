"""Calibration: seconds of a training step, measured at several rates on one kind of device. Budgets in time need it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import timm
import torch

from explorer.differences import first_difference
from explorer.errors import InvalidInput, validated
from explorer.files import refused_if_unwritable, write_file
from explorer.paths import expanded
from explorer.segment import StepCost
from explorer.spec.rates import Rates
from explorer.spec.step_times import Setting, StepTime, StepTimeTable
from explorer.training.device import device_name
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.step_time import StepTimer, TimedTraining
from explorer.training.step_time_model import MeasuredStep, fitted_model, predicted_seconds
from explorer.training.stopwatch import Lap
from explorer.training.task import Task

SCHEMA = "vit-budget-explorer/calibration"
MEASURED_SECONDS = 3.0
"""How long each of the rates is measured."""
UNRELATED_TO_STEP_TIME = (
    "model.pretrained",
    "model.checkpoint",
    "model.weights_sha256",
    "objective.metric",  # and its options
    "objective.also",
    "objective.unit",
    "recipe.epochs",
    "recipe.learning_rate",
    "recipe.lr_schedule",
    "recipe.weight_decay",
    "data.root",
    "data.train_split",
    "data.validation_split",
    "data.test_split",
    "data.cache.folder",
    "data.unreadable",
    "data.skip_files",
)
"""Fields of a task that do not change the time of a step."""


STEP_STAGING = ("token_policy",)
"""Settings of `staging` that change the time of a step, and have rows of their own in a table."""
ATTEMPTS = 3
"""Number of times that step times are measured, until they do not scatter too much."""
MAX_SCATTER = 0.2
"""Largest scatter of the full model's step times at which they are used: interquartile range over median."""
SCATTER_VARIABLE = "EXPLORER_MAX_SCATTER"
"""Environment variable that replaces `MAX_SCATTER`, where rough times on a busy machine are good enough."""


@dataclass(frozen=True)
class Variant:
    """A step to measure besides those of the recipe: settings that a sweep varies and that change the time of a step."""

    rates: Rates
    batch_size: int
    staging: Mapping[str, str] = field(default_factory=dict)
    """Settings of `staging` that differ from those of the task."""

    @property
    def key(self) -> tuple[Rates, int, tuple[tuple[str, str], ...]]:
        """Equal for equal steps."""
        return self.rates, self.batch_size, tuple(sorted(self.staging.items()))

    def of(self, task: Task) -> Task:
        """The task with these settings."""
        spec = task.spec.with_settings(task.spec.recipe.learning_rate, self.batch_size, self.staging)
        return task if spec == task.spec else task.with_spec(spec)


def setting_of(task: Task, device: str, processes: int = 1, *, other_machine: bool = False) -> Setting:
    """What the step times of a task depend on, on a device of this machine or on one in each of several processes.

    Of another machine, the name of the GPU is not known.
    """
    return Setting(
        device=device if other_machine else device_name(device),
        threads=torch.get_num_threads(),
        versions={"torch": torch.__version__, "timm": timm.__version__},
        classes=task.data.classes,
        processes=processes,
        task=task.spec,
    )


def check_setting(measured: Setting, here: Setting, *, ignored: tuple[str, ...] = (), other_machine: bool = False) -> None:
    """Check that step times that were measured in one setting are those of another one.

    Args:
        measured: where the step times were measured.
        here: the setting of a training.
        ignored: fields that may differ, besides those that step times do not depend on.
        other_machine: whether it will train on other machines than this one, which check device and versions themselves.

    Raises:
        InvalidInput: when a step may take another time there; it names the first setting that differs.
    """
    ignored = (*UNRELATED_TO_STEP_TIME, *ignored)
    if here.device != "cpu":
        ignored = (*ignored, "threads")
    if other_machine:
        ignored = (*ignored, "device", "versions")
    difference = first_difference(_flat(measured), _flat(here), ignored)
    if difference is not None:
        reason = f"was measured with {difference.before!r}, and this is {difference.after!r}"
        raise InvalidInput("calibration", difference.field, reason)


class Calibration(StepTimeTable):
    """Measured step times, and the setting in which they were measured."""

    @classmethod
    def measure(
        cls,
        task: Task,
        rates: Iterable[Rates],
        device: str,
        *,
        seconds: float = MEASURED_SECONDS,
        processes: Processes = SINGLE_PROCESS,
        max_scatter: float | None = None,
    ) -> Calibration:
        """Measure all rates at the task's batch size; see `measure_variants`.

        Args:
            task: model, data and recipe.
            rates: requested rates; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of the rates.
            processes: the processes that train together; each of them calls this function.
            max_scatter: largest scatter at which the times are used; `None` for `MAX_SCATTER`, or the environment variable
                `EXPLORER_MAX_SCATTER`.

        Raises:
            InvalidInput: when the model cannot have some of the rates, or the step times scatter too much.
        """
        variants = [Variant(each, task.batch_size) for each in rates]
        return cls.measure_variants(task, variants, device, seconds=seconds, processes=processes, max_scatter=max_scatter)

    @classmethod
    def measure_variants(
        cls,
        task: Task,
        variants: Iterable[Variant],
        device: str,
        *,
        seconds: float = MEASURED_SECONDS,
        processes: Processes = SINGLE_PROCESS,
        max_scatter: float | None = None,
    ) -> Calibration:
        """Measure the full model with the recipe's batch size, and every variant in turn with it.

        Where the step times scatter too much, everything is measured again, `ATTEMPTS` times in all.

        Args:
            task: model, data and recipe.
            variants: what to measure; duplicates are measured once.
            device: `cuda` or `cpu`.
            seconds: how long to measure each of them, turns of the full model included.
            processes: the processes that train together; each of them calls this function.
            max_scatter: largest scatter at which the times are used; `None` for `MAX_SCATTER`, or the environment variable
                `EXPLORER_MAX_SCATTER`.

        Raises:
            InvalidInput: when the model cannot have some of the rates, the step times scatter by more than `max_scatter`, or it
                is not known whether the model is compiled.
        """
        if task.spec.recipe.compile == "auto":
            raise InvalidInput("recipe.compile", "auto", "must be true or false: a compiled step takes another time")
        if max_scatter is None:
            max_scatter = _allowed_scatter()
        wanted = {variant.key: variant for variant in variants}
        own = Variant(Rates(), task.batch_size)
        others = [variant for key, variant in wanted.items() if key != own.key]
        for _ in range(ATTEMPTS):
            timer = StepTimer(TimedTraining(task, Rates(), device, processes), seconds)
            laps = [timer.relative(TimedTraining(variant.of(task), variant.rates, device, processes)) for variant in others]
            full, (low, high) = timer.reference, timer.quartiles
            scatter = processes.broadcast((high - low) / full.seconds)
            if scatter <= max_scatter:
                break
        else:
            reason = (
                f"step times scatter too much for budgets in time: the quartiles of the full model's are {1000 * low:.3g} and "
                f"{1000 * high:.3g} ms, {scatter:.0%} of the median apart; at most {max_scatter:.0%} is allowed"
            )
            raise InvalidInput("step times", device_name(device), reason)
        times = {own.key: full}
        for variant, lap in zip(others, laps, strict=True):
            times[variant.key] = Lap(1, lap.seconds * full.seconds, lap.input_seconds * full.seconds)
        steps = tuple(
            StepTime(
                rates=variant.rates,
                seconds=times[key].seconds,
                input_seconds=times[key].input_seconds,
                batch_size=None if variant.batch_size == task.batch_size else variant.batch_size,
                staging=dict(variant.staging),
            )
            for key, variant in {**wanted, own.key: own}.items()
        )
        setting = setting_of(task, device, processes.count)
        return cls(setting=setting, steps=steps, scatter=scatter).with_model(task)

    def with_model(self, task: Task) -> Calibration:
        """The same table with a model of the rates that were not measured, fitted to those that were.

        Args:
            task: the task of the table.
        """
        measured = []
        for step in self.steps:
            size = step.batch_size or task.batch_size
            varied = Variant(step.rates, size, step.staging).of(task)
            measured.append(MeasuredStep(varied.step_size(step.rates), size, step.seconds))
        return self.model_copy(update={"model": fitted_model(measured)})

    @classmethod
    def of_table(cls, table: StepTimeTable) -> Calibration:
        """A table as it is kept, with what can be done with it."""
        return table if isinstance(table, cls) else cls(**dict(table))

    def save(self, path: str | Path) -> Path:
        """Write a JSON file.

        Raises:
            InvalidInput: when the file cannot be written.
        """
        content = {"schema": SCHEMA, **self.model_dump(mode="json")}
        with refused_if_unwritable("calibration", path):
            return write_file(expanded(path, "calibration"), json.dumps(content, indent=1) + "\n")

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

    def setting_for(self, task: Task) -> Setting:
        """The setting of the step times of a task: batch size and the settings `STEP_STAGING` are those that have rows."""
        batch_size, staging = self._varied(task)
        if self.measured(Rates(), batch_size, staging) is None:
            return self.setting
        own = self.setting.task
        return self.setting.model_copy(update={"task": own.with_settings(own.recipe.learning_rate, batch_size, staging)})

    def step_cost(
        self, task: Task, device: str | None = None, processes: int = 1, *, other_machine: bool = False
    ) -> Callable[[Rates], StepCost]:
        """The cost function of a task: counted FLOPs, with device-seconds as measured, or as the table's model gives them.

        A step of several processes costs as many times its seconds, because each has a device of its own.

        Args:
            task: the task.
            device: `cuda` or `cpu`, which is checked; `None` for a task and a device that were checked before.
            processes: number of processes that train together.
            other_machine: as in `check_setting`.

        Raises:
            InvalidInput: when the table was measured on another device, with other versions or another number of processes, or
                for another task; it names the first setting that differs.
        """
        if device is not None:
            here = setting_of(task, device, processes, other_machine=other_machine)
            check_setting(self.setting_for(task), here, other_machine=other_machine)
        batch_size, staging = self._varied(task)

        def cost(rates: Rates) -> StepCost:
            counted = task.step_cost(rates)
            step = self.row(rates, batch_size, staging)
            if step is not None:
                of_input = None if step.input_seconds is None else processes * step.input_seconds
                return replace(counted, seconds=processes * step.seconds, input_seconds=of_input)
            if self.model is None:
                return counted
            predicted = predicted_seconds(self.model, task.step_size(rates), batch_size)
            return replace(counted, seconds=processes * predicted)

        return cost

    def full_seconds(self, task: Task) -> float | None:
        """Device-seconds of full training with the batch size of the table's task; `None` if that step was not measured.

        Args:
            task: gives the number of epochs and images.
        """
        batch_size = self.setting.task.recipe.batch_size
        seconds = self.measured(Rates(), batch_size, {})
        return None if seconds is None else task.epochs * task.train_images / batch_size * seconds * self.setting.processes

    def _varied(self, task: Task) -> tuple[int, dict[str, str]]:
        """Batch size of a task, and its settings `STEP_STAGING` that differ from those of the table's task."""
        own, given = self.setting.task.staging, task.spec.staging
        different = {name: getattr(given, name) for name in STEP_STAGING if getattr(given, name) != getattr(own, name)}
        return task.batch_size, different


def _allowed_scatter() -> float:
    """`MAX_SCATTER`, or what the environment variable says instead."""
    text = os.environ.get(SCATTER_VARIABLE, str(MAX_SCATTER))
    try:
        scatter = float(text)
    except ValueError:
        scatter = math.nan
    if not scatter > 0:
        raise InvalidInput(SCATTER_VARIABLE, text, f"must be a number above 0, the largest scatter (default {MAX_SCATTER})")
    return scatter


def _flat(setting: Setting) -> dict[str, object]:
    """A setting as nested data, with the task's sections at the top level: differences are then named as in task files."""
    content = setting.model_dump(mode="json")
    task = content.pop("task")
    return {**content, **task}
