"""Tables of step times: seconds of a training step, measured at several rates on one kind of device. Data alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from explorer.spec.base import Frozen
from explorer.spec.rates import Rates
from explorer.spec.task import TaskSpec


class StepTime(Frozen):
    """The time of a training step in one setting."""

    rates: Rates
    """Requested rates."""
    seconds: float = Field(gt=0, allow_inf_nan=False)
    """Seconds of a training step, with its input."""
    input_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The part of it that is spent on input. `None` in files of earlier releases."""
    batch_size: int | None = None
    """Images per step; `None` for the batch size of the table's task."""
    staging: dict[str, str] = {}
    """Settings of `staging` that differ from those of the table's task."""


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
    """The task. Some of its fields do not matter: see `explorer.training.calibration.UNRELATED_TO_STEP_TIME`."""


class StepTimeModel(Frozen):
    """Coefficients of the model for rates that were not measured: seconds = sum of coefficient times feature."""

    coefficients: dict[str, float]
    """Seconds per unit of each feature of `explorer.training.step_time_model`; none is negative."""
    held_out_median: float
    """Median relative error of rows that are predicted from all other rows (leave-one-out)."""
    held_out_largest: float
    """Largest of these errors."""


class StepTimeTable(Frozen):
    """Measured step times, and the setting in which they were measured. Rows are added, and never changed."""

    setting: Setting
    steps: tuple[StepTime, ...]
    """The measured step times. Those of the full model at the task's own batch size define the cost of full training."""
    scatter: float | None = None
    """Scatter of the full model's step times while the table was measured: interquartile range over median."""
    model: StepTimeModel | None = None
    """Gives the rates that were not measured; `None` if only measured rates can be planned."""
    verified: tuple[StepTime, ...] = ()
    """Step times of winners that were planned with the model and measured afterwards. Plans of the sweep do not use them."""

    def row(self, rates: Rates, batch_size: int, staging: Mapping[str, str]) -> StepTime | None:
        """The measurement of a step; `None` if it was not measured. Arguments as for `measured`."""
        return self._find(self.steps, rates, batch_size, staging)

    def measured(self, rates: Rates, batch_size: int, staging: Mapping[str, str]) -> float | None:
        """Seconds of a step as they were measured; `None` if they were not.

        Args:
            rates: requested rates.
            batch_size: images per step.
            staging: settings of `staging` that differ from those of the table's task.
        """
        step = self.row(rates, batch_size, staging)
        return None if step is None else step.seconds

    def measured_later(self, rates: Rates, batch_size: int, staging: Mapping[str, str]) -> float | None:
        """Seconds of a step of a winner, measured after the search; `None` if they were not."""
        step = self._find(self.verified, rates, batch_size, staging)
        return None if step is None else step.seconds

    def part_for(self, rates: Iterable[Rates], batch_size: int, staging: Mapping[str, str]) -> StepTimeTable:
        """The part of the table that plans of a schedule need: its rates, and the full model.

        Args:
            rates: requested rates of its stages.
            batch_size: images per step.
            staging: settings of `staging` that the schedule is trained with.
        """
        own = self.setting.task
        needed = {*rates, Rates()}
        different = {name: value for name, value in staging.items() if value != getattr(own.staging, name)}
        steps = tuple(
            step
            for step in self.steps
            if (step.rates.full and step.batch_size is None and not step.staging)
            or (
                step.rates in needed
                and (step.batch_size or own.recipe.batch_size) == batch_size
                and all(different.get(name) == value for name, value in step.staging.items())
            )
        )
        return StepTimeTable(setting=self.setting, steps=steps, scatter=self.scatter, model=self.model)

    def _find(self, steps: tuple[StepTime, ...], rates: Rates, batch_size: int, staging: Mapping[str, str]) -> StepTime | None:
        own = self.setting.task.recipe.batch_size
        for step in steps:
            if step.rates == rates and (step.batch_size or own) == batch_size and step.staging == staging:
                return step
        return None
