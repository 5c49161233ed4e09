"""The parts of a plan: what a training step costs, a run of steps at constant rates, and a stage's row of the plan's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from explorer.errors import InvalidInput
from explorer.spec.augmentation_strength import FULL_STRENGTH, AugmentationStrength
from explorer.spec.budget import Currency
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step."""

    rates: Rates
    """The rates that the model really has: numbers of heads, channels, tokens and blocks are whole."""
    flops: int
    """Floating-point operations of one forward and backward pass over a batch."""
    seconds: float | None = None
    """Measured seconds of the step on this device; `None` if not calibrated."""
    forward_macs: int | None = None
    """Multiply-adds of the forward pass alone, for budgets in GMACs-epochs; `None` if not counted."""
    input_seconds: float | None = None
    """The part of `seconds` that is spent on input; `None` if not measured."""

    def amount(self, currency: Currency) -> int:
        """Cost of the step as a whole number: FLOPs or nanoseconds; see `whole_cost`."""
        return whole_cost(currency, self.flops, self.seconds, self.rates)


def whole_cost(currency: Currency, flops: int, seconds: float | None, rates: Rates) -> int:
    """A step's cost as a whole number: FLOPs, or nanoseconds and at least one of them.

    Args:
        currency: the currency.
        flops: FLOPs of the step.
        seconds: its seconds by a table of step times; `None` if the table has none.
        rates: rates of the step, for the message.

    Raises:
        InvalidInput: when the currency is device-seconds and the step was not measured.
    """
    if currency == "flops":
        return flops
    if seconds is None:
        command = "explorer calibrate --task TASK --schedule SCHEDULE, then --calibration calibration.json here"
        raise InvalidInput("budget", "device-seconds", f"needs measured step times for rates {rates}: {command}")
    return max(1, round(seconds * 1e9))


class WarmupPosition(NamedTuple):
    """Where a segment begins in a warmup that is a fraction of full training.

    The numbers are the same at every budget, so that the learning rates of equal steps are equal bits.
    """

    spent: int
    """Cost of all steps before the segment, in the currency of the plan."""
    step: int
    """Cost of a step of the segment."""
    length: float
    """Cost of the warmup; 0 without one."""

    def factor(self, step: int) -> float | None:
        """Factor on the peak learning rate at the end of a step of the segment; `None` for steps after the warmup."""
        spent = self.spent + step * self.step
        return min(1.0, (spent + self.step) / self.length) if spent < self.length else None


@dataclass(frozen=True)
class Segment:
    """A run of steps at constant rates, with its piece of the learning-rate schedule.

    A segment covers one grid slot of one stage, so schedules that begin alike have equal leading segments.
    """

    stage: int
    """Number of the stage, from 0."""
    requested: Rates
    """The rates that the model is set to. The realised rates would not do: averaged over modules of unequal size, they can
    round to other numbers of heads and channels."""
    rates: Rates
    """The realised rates, for display."""
    steps: int
    step_flops: int
    start_time: float
    """Budget time at the start of the first step."""
    end_time: float
    """Budget time at the end of the last step."""
    lr_schedule: LearningRateSchedule
    """The learning-rate schedule at the plan's budget: its warmup is a fraction of the budget."""
    step_seconds: float | None = None
    """Measured seconds of a step; `None` if not calibrated."""
    step_forward_macs: int | None = None
    """Multiply-adds of the forward pass of a step; `None` if not counted."""
    batch_factor: float = 1.0
    """Factor on the batch size of the plan."""
    augmentation: AugmentationStrength = FULL_STRENGTH
    """Strength of augmentation and stochastic depth, as shares of the recipe's."""
    step_input_seconds: float | None = None
    """The part of `step_seconds` that is spent on input; `None` if not measured."""
    warmup: WarmupPosition | None = None
    """Where the segment is in a warmup that is a fraction of full training; `None` for a warmup that is one of the budget."""

    frozen: bool = False
    """Whether the frozen parts of the recipe (`recipe.frozen`) are frozen."""

    def images_per_step(self, batch_size: int) -> int:
        """Number of images in a step.

        Args:
            batch_size: batch size of the plan.
        """
        return round(self.batch_factor * batch_size)

    @property
    def what_is_trained(self) -> str:
        """The requested rates, whether parts are frozen, and batch factor and augmentation where these are not the recipe's, as
        text for keys."""
        rates = self.requested.model_dump_json() + (" frozen" if self.frozen else "")
        if self.batch_factor == 1 and self.augmentation.full:
            return rates
        return f"{rates} batch {self.batch_factor!r} {self.augmentation.model_dump_json()}"

    def amount(self, currency: Currency) -> int:
        """Cost of all steps of the segment as a whole number: FLOPs or nanoseconds; see `whole_cost`."""
        return self.steps * whole_cost(currency, self.step_flops, self.step_seconds, self.rates)

    @property
    def flops(self) -> int:
        """Counted cost of all steps of the segment."""
        return self.steps * self.step_flops

    @property
    def seconds(self) -> float | None:
        """Measured seconds of all steps of the segment; `None` if not calibrated."""
        return None if self.step_seconds is None else self.step_seconds * self.steps

    def learning_rate_factor(self, step: int) -> float:
        """Factor on the peak learning rate for one step.

        The learning-rate schedule is read at the step's start. In the warmup it is read at the step's end, because the first
        step would otherwise have a learning rate of zero and be wasted.

        Args:
            step: number of the step within the segment, from 0.
        """
        width = (self.end_time - self.start_time) / self.steps
        time = self.start_time + width * step
        if self.warmup is not None:
            factor = self.warmup.factor(step)
            return self.lr_schedule.decay(time) if factor is None else factor
        return self.lr_schedule.factor(time + width if time < self.lr_schedule.warmup else time)


@dataclass(frozen=True)
class PlannedStage:
    """The segments of one stage taken together: a row of the plan's table."""

    stage: int
    """Number of the stage, from 0."""
    requested: Rates
    """The rates as the schedule has them: fractions, numbers or lists."""
    rates: Rates
    """The realised rates."""
    steps: int
    step_flops: int
    step_forward_macs: int | None
    """Multiply-adds of the forward pass of a step; `None` if not counted."""
    flops: int
    share: float
    """Share of the budget."""
    seconds: float | None
    """Planned device-seconds; `None` if not calibrated."""
    batch_size: int
    """Images per step."""
    epochs: float
    """Passes over the training images."""
    augmentation: AugmentationStrength
    """Strength of augmentation and stochastic depth, as shares of the recipe's."""
    factors: tuple[float, ...]
    """Learning-rate factors of the first and the last step; between them the peak, if the warmup ends within this stage."""
