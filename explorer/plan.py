"""Plans: what a schedule becomes for one task and one budget. Pure; no torch, no ray.

Everything hard about budgeted training is decided here and checkable without training a step: the plan
costs the budget to within one full-model step and never more, rates never fall, the last segment is the
full model, the learning rate ends at zero. The trainer executes segments and decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Protocol

from explorer.errors import InvalidInput
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step."""

    rates: Rates
    """The rates the model really runs at: head and token counts are whole numbers."""
    flops: int
    """Floating-point operations of one forward and backward pass over a batch."""
    seconds: float | None = None
    """What it takes on the device at hand, measured; None: not calibrated."""


class PlannedTask(Protocol):
    """What a plan needs to know of a task."""

    @property
    def train_images(self) -> int:
        """Images in one epoch."""

    @property
    def epochs(self) -> float:
        """Length of full training."""

    @property
    def batch_size(self) -> int:
        """Images in one step."""

    @property
    def lr_schedule(self) -> LearningRateSchedule:
        """The learning rate over budget time."""


@dataclass(frozen=True)
class Segment:
    """A run of steps at constant rates with its piece of the learning-rate schedule.

    One segment covers one grid slot of one stage, so schedules that begin alike have equal leading segments.
    """

    stage: int
    requested: Rates
    """What the model is set to. Not the realised rates: averaged over modules of unequal size, these can round otherwise."""
    rates: Rates
    """Realised rates, to show."""
    steps: int
    step_flops: int
    start_time: float
    end_time: float
    """Budget time at the first step's start and the last step's end."""
    lr_schedule: LearningRateSchedule
    step_seconds: float | None = None
    """Measured; None: not calibrated."""

    @property
    def flops(self) -> int:
        """Counted cost of all steps of the segment."""
        return self.steps * self.step_flops

    def learning_rate_factor(self, step: int) -> float:
        """Factor on the peak learning rate for step `step` of this segment (0-based), at the step's start.

        A warmup's first step would have a rate of zero and be wasted, so the rise is read at the step's end.
        """
        width = (self.end_time - self.start_time) / self.steps
        time = self.start_time + width * step
        return self.lr_schedule.factor(time + width if time < self.lr_schedule.warmup else time)


@dataclass(frozen=True)
class PlannedStage:
    """The segments of one stage taken together: a row of the plan's table."""

    stage: int
    rates: Rates
    steps: int
    step_flops: int
    flops: int
    share: float
    """Of the budget."""
    seconds: float | None
    """Of the device, where step times were measured."""
    factors: tuple[float, ...]
    """Learning-rate factors of the first and the last step, and between them the peak where the warmup ends in this stage."""


@dataclass(frozen=True)
class Plan:
    """A compiled schedule: the segments to execute and what they cost."""

    segments: tuple[Segment, ...]
    budget: Budget
    budget_cost: int
    """The budget as a whole number: FLOPs, or nanoseconds where it is in device-seconds."""
    full_flops: int
    """Cost of full training: budget 100 %."""
    batch_size: int
    train_images: int

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return sum(segment.steps for segment in self.segments)

    @property
    def flops(self) -> int:
        """Planned cost in FLOPs; for counted budgets at most `budget_cost` and less than one full-model step below it."""
        return sum(segment.flops for segment in self.segments)

    @property
    def seconds(self) -> float | None:
        """Planned device-seconds, where step times were measured."""
        return _seconds(self.segments)

    @property
    def cost(self) -> float:
        """Planned cost as a fraction of full training."""
        return self.flops / self.full_flops

    def epochs(self, steps: int) -> float:
        """Passes over the data that `steps` steps make."""
        return steps * self.batch_size / self.train_images

    def stages(self) -> list[PlannedStage]:
        """One row a stage. Stages whose share holds no whole step do not appear."""
        rows = []
        for stage, group in groupby(self.segments, key=lambda segment: segment.stage):
            parts = list(group)
            first, last = parts[0].learning_rate_factor(0), parts[-1].learning_rate_factor(parts[-1].steps - 1)
            peak = parts[0].lr_schedule.peak_within(parts[0].start_time, parts[-1].end_time)
            rows.append(
                PlannedStage(
                    stage=stage,
                    rates=parts[0].rates,
                    steps=sum(part.steps for part in parts),
                    step_flops=parts[0].step_flops,
                    flops=sum(part.flops for part in parts),
                    share=parts[-1].end_time - parts[0].start_time,
                    seconds=_seconds(parts),
                    factors=(first, *peak, last),
                )
            )
        return rows

    def digest(self) -> str:
        """Hash of the segments (not of the stage numbers): equal plans train equal models."""
        rows = [
            {
                **{name: value for name, value in asdict(segment).items() if name not in ("step_seconds", "lr_schedule")},
                "stage": 0,
                "requested": segment.requested.model_dump(),
                "rates": segment.rates.model_dump(),
                "curve": segment.lr_schedule.model_dump(),
            }
            for segment in self.segments
        ]
        text = json.dumps({"segments": rows, "batch_size": self.batch_size}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _seconds(segments: Sequence[Segment]) -> float | None:
    found = [segment.step_seconds * segment.steps for segment in segments if segment.step_seconds is not None]
    return sum(found) if len(found) == len(segments) else None


def compile_plan(schedule: Schedule, task: PlannedTask, budget: Budget, step_cost: Callable[[Rates], StepCost]) -> Plan:
    """Compile a schedule for one task and budget.

    The budget is divided into `schedule.grid` equal slots of cost, in the budget's own currency: FLOPs, or nanoseconds for
    device-seconds. Each slot is filled with whole steps at its stage's rates; what is left of a slot passes to the next.
    Early stages leave room for one full-model step, so that the last segment is always the full model. All costs are integers.

    Args:
        schedule: stages with requested rates.
        task: data size, epochs, batch size and learning-rate schedule.
        budget: the cost to meet.
        step_cost: cost of one step at requested rates, with the rates realised; with measured seconds for a budget of them.

    Raises:
        InvalidInput: when the budget is smaller than one step of the full model or larger than ten full trainings, or in
            device-seconds without calibration.
    """

    def price(cost: StepCost) -> int:
        if budget.counted:
            return cost.flops
        if cost.seconds is None:
            command = "explorer calibrate --task TASK --schedule SCHEDULE, then --calibration calibration.json here"
            raise InvalidInput("budget", str(budget), f"needs measured step times for rates {cost.rates}: {command}")
        return max(1, round(cost.seconds * 1e9))

    full = step_cost(Rates())
    full_steps = task.epochs * task.train_images / task.batch_size
    full_flops = int(task.epochs * task.train_images * full.flops / task.batch_size)
    in_seconds = budget.unit == "device-seconds"
    budget_cost = budget.of(int(full_steps * price(full)) if in_seconds else full_flops)
    full_price = price(full)
    if budget_cost < full_price:
        currency = "FLOPs" if budget.counted else "ns"
        least = (
            f"{full_price / full_flops:.2%} of full training"
            if budget.unit == "fraction" and full_flops
            else f"{full_price} {currency}"
        )
        raise InvalidInput("budget", str(budget), f"must hold at least one step of the full model, {least}")

    costs = [step_cost(stage.rates) for stage in schedule.stages]
    prices = [price(cost) for cost in costs]
    last = len(costs) - 1
    filled: list[tuple[int, int]] = []  # (stage, steps) of every grid slot that holds a step
    spent = spent_before_last = 0
    for slot, stage in enumerate(_stage_of_each_slot(schedule), start=1):
        limit = budget_cost * slot // schedule.grid
        if stage < last:
            limit = min(limit, budget_cost - full_price)
        steps = max(0, limit - spent) // prices[stage]
        spent += steps * prices[stage]
        if stage < last:
            spent_before_last = spent
        if steps:
            filled.append((stage, steps))

    segments, done = [], 0
    start_of_last = spent_before_last / budget_cost
    for stage, steps in filled:
        after = done + steps * prices[stage]

        def time(cost: int, stage: int = stage) -> float:
            if stage < last:
                return cost / budget_cost
            # The plan may end up to one step short of the budget. The last stage's time is stretched to
            # end at exactly 1, so the learning rate ends at zero; earlier stages, which schedules share,
            # must not depend on how the plan ends.
            share = (cost - spent_before_last) / (spent - spent_before_last)
            return start_of_last + (1 - start_of_last) * share

        cost = costs[stage]
        where = time(done), time(after)
        segments.append(
            Segment(stage, schedule.stages[stage].rates, cost.rates, steps, cost.flops, *where, task.lr_schedule, cost.seconds)
        )
        done = after
    return Plan(tuple(segments), budget, budget_cost, full_flops, task.batch_size, task.train_images)


def _stage_of_each_slot(schedule: Schedule) -> Iterator[int]:
    for stage, slots in enumerate(schedule.slots()):
        yield from [stage] * slots
