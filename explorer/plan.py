"""Plans: what a schedule becomes for one task and one budget. Pure functions and data; neither torch nor ray is imported.

All decisions of budgeted training are made here, where they can be checked without training: the plan costs the budget to
within one full-model step and never more, rates never fall, the last segment is the full model, and the learning rate reaches
zero. The trainer executes the segments and decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import accumulate, groupby
from typing import Protocol

from explorer.errors import InvalidInput
from explorer.segment import PlannedStage, Segment, StepCost, WarmupPosition
from explorer.slots import budget_times, epoch_slots, filled_slots, grid_slots
from explorer.spec.budget import GMAC, Budget, Currency
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage

__all__ = ["Plan", "PlannedStage", "PlannedTask", "Segment", "StepCost", "compile_plan"]

ADDED_LATER = ("batch_factor", "augmentation", "warmup", "frozen")
"""Fields of a segment that digests have only where they do not have their defaults."""
ROUNDING = 1e-9
"""A warmup that is longer than a budget allows by less than this fraction fits."""


class PlannedTask(Protocol):
    """What a plan depends on besides schedule, budget and the cost of a step."""

    @property
    def train_images(self) -> int:
        """Images in one epoch."""

    @property
    def epochs(self) -> float:
        """Length of full training in epochs."""

    @property
    def batch_size(self) -> int:
        """Images per step."""

    @property
    def lr_schedule(self) -> LearningRateSchedule:
        """Learning-rate schedule over budget time."""

    @property
    def frozen_until(self) -> float:
        """Budget time until which parts of the model are frozen; 0 if none are."""


@dataclass(frozen=True)
class Plan:
    """A compiled schedule: the segments to execute and what they cost."""

    segments: tuple[Segment, ...]
    budget: Budget
    budget_cost: int
    """The budget as a whole number: FLOPs, nanoseconds for a budget in device-seconds, or multiply-adds of forward passes for
    one in GMACs-epochs."""
    full_flops: int
    """Cost of full training, budget 100 %, in FLOPs."""
    batch_size: int
    train_images: int
    currency: Currency = "flops"
    """Currency of the budget and of `cost`."""
    full_seconds: float | None = None
    """Cost of full training in device-seconds, by the table of step times; `None` if not calibrated."""

    @property
    def full_cost(self) -> int:
        """Cost of full training in the plan's currency as a whole number: FLOPs or nanoseconds."""
        return self.full_flops if self.currency == "flops" else max(1, round((self.full_seconds or 0.0) * 1e9))

    @property
    def planned_cost(self) -> int:
        """Planned cost in the plan's currency as a whole number: FLOPs or nanoseconds."""
        return sum(segment.amount(self.currency) for segment in self.segments)

    @property
    def steps(self) -> int:
        """Total number of optimizer steps."""
        return sum(segment.steps for segment in self.segments)

    @property
    def flops(self) -> int:
        """Planned cost in FLOPs. For a counted budget it is at most `budget_cost`, and less than one full-model step below."""
        return sum(segment.flops for segment in self.segments)

    @property
    def seconds(self) -> float | None:
        """Planned device-seconds; `None` if not calibrated."""
        return _total_seconds(self.segments)

    @property
    def gmacs_epochs(self) -> float | None:
        """Planned cost in the unit of the paper, billions of forward multiply-adds of one image, times epochs.

        `None` if they were not counted.
        """
        forward = [(segment.step_forward_macs, segment.steps) for segment in self.segments]
        counted = [macs * steps for macs, steps in forward if macs is not None]
        return sum(counted) / (self.train_images * GMAC) if len(counted) == len(forward) else None

    @property
    def cost(self) -> float:
        """Planned cost as a fraction of full training, in the plan's currency."""
        return self.planned_cost / self.full_cost

    def cost_after(self, steps: int, currency: Currency | None = None) -> float:
        """Planned cost of the first `steps` steps as a fraction of full training.

        Args:
            steps: number of steps from the start of the plan.
            currency: currency of the cost; `None` for that of the plan.
        """
        currency = currency or self.currency
        spent = 0
        for segment in self.segments:
            taken = min(steps, segment.steps)
            spent, steps = spent + taken * segment.amount(currency) // segment.steps, steps - taken
        full = self.full_flops if currency == "flops" else max(1, round((self.full_seconds or 0.0) * 1e9))
        return spent / full

    def images(self, steps: int) -> int:
        """Number of images in the first `steps` steps; an image counts each time that it is used."""
        images = 0
        for segment in self.segments:
            taken = min(steps, segment.steps)
            images, steps = images + taken * segment.images_per_step(self.batch_size), steps - taken
        return images

    def epochs(self, steps: int) -> float:
        """Passes over the data in the first `steps` steps."""
        return self.images(steps) / self.train_images

    def position(self, step: int) -> tuple[Segment, int]:
        """The segment that holds a step of the plan, and the step's number within the segment; both numbers from 0.

        Raises:
            IndexError: when the plan has no such step.
        """
        number = step
        for segment in self.segments:
            if number < segment.steps:
                return segment, number
            number -= segment.steps
        raise IndexError(f"step {step} of a plan of {self.steps} steps")

    def stages(self) -> list[PlannedStage]:
        """The rows of the plan's table, one per stage. Stages whose share holds no whole step do not appear."""
        groups = groupby(self.segments, key=lambda segment: segment.stage)
        return [_planned_stage(list(group), self.batch_size, self.train_images) for _, group in groups]

    def digest(self) -> str:
        """Hash of the segments, without stage numbers and measured seconds: equal plans train equal models."""
        omitted = ("step_seconds", "step_input_seconds", "step_forward_macs", "lr_schedule", *ADDED_LATER)
        rows = [
            {
                **{name: value for name, value in asdict(segment).items() if name not in omitted},
                "stage": 0,
                "requested": segment.requested.model_dump(),
                "rates": segment.rates.model_dump(),
                # The key is the field's name in earlier ledgers and checkpoints: their digests must stay the same.
                "curve": segment.lr_schedule.model_dump(),
                # For the same reason, what was added later is left out where it has its default.
                **({} if segment.batch_factor == 1 else {"batch_factor": segment.batch_factor}),
                **({} if segment.augmentation.full else {"augmentation": segment.augmentation.model_dump()}),
                **({} if segment.warmup is None else {"warmup": segment.warmup}),
                **({"frozen": True} if segment.frozen else {}),
            }
            for segment in self.segments
        ]
        text = json.dumps({"segments": rows, "batch_size": self.batch_size}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def compile_plan(
    schedule: Schedule,
    task: PlannedTask,
    budget: Budget,
    step_cost: Callable[[Rates], StepCost],
    *,
    currency: Currency = "flops",
    full_seconds: float | None = None,
) -> Plan:
    """Compile a schedule for one task and budget.

    The budget is cut into `schedule.grid` equal slots of cost, in the budget's own currency: FLOPs, nanoseconds for a budget in
    device-seconds, or multiply-adds of forward passes for one in GMACs-epochs. Each slot is filled with whole steps at its
    stage's rates; the remainder of a slot passes to the next one. Early stages leave room for one full-model step, so that the
    last segment is always the full model. All costs are integers.

    Stages that are written in epochs get the share of the budget that these epochs cost. Epochs that cost less than the budget
    are lengthened by a common factor to spend it, as the paper scales its durations. Slots are divided where such a stage ends.

    Where the warmup is a fraction of full training, slots are counted from the exact budget, which is not rounded first: slots
    of two budgets that begin and end after equal costs have equal steps, with equal learning rates until a cooldown begins.

    Args:
        schedule: stages with requested rates.
        task: size of the data, epochs, batch size and learning-rate schedule.
        budget: the cost to meet.
        step_cost: cost of one step at requested rates, with the realised rates, and with measured seconds for a budget in
            device-seconds.
        currency: currency of a budget that is a share of full training.
        full_seconds: device-seconds of full training; `None` computes them from `step_cost`. A sweep gives those of its
            recipe's batch size, so that shares are the same budget for every batch size.

    Raises:
        InvalidInput: when the budget is smaller than one step of the full model or larger than ten full trainings, or is in
            device-seconds and the steps were not measured; when the budget has no room for the warmup; when the epochs of the
            stages cost more than the budget; when a batch factor does not make a whole number of images, or the budget is in
            device-seconds, for which steps are measured with the recipe's batch size alone.
    """
    budget.priced(None)  # money has no price here
    currency = budget.currency(currency)
    full = step_cost(Rates())
    full_steps = task.epochs * task.train_images / task.batch_size
    full_flops = int(task.epochs * task.train_images * full.flops / task.batch_size)
    if full_seconds is None and full.seconds is not None:
        full_seconds = full_steps * full.seconds
    full_step = _in_currency(full, budget, currency)
    if currency == "device_seconds" and full_seconds is not None:
        full_cost = int(full_seconds * 1e9)
    else:
        full_cost = int(full_steps * full_step) if budget.unit == "GMACs-epochs" else full_flops
    budget_cost = budget.of(full_cost, task.train_images)
    exact_cost: int | Fraction = budget_cost
    shares_trunk = task.lr_schedule.warmup_of == "full_training"
    if shares_trunk:
        exact_cost = budget.exactly(full_cost, task.train_images)
        budget_cost = int(exact_cost)
    if budget_cost < full_step:
        smallest = f"{full_step} FLOPs"
        if currency == "device_seconds":
            smallest = f"{full_step / 1e9:.3g} {budget.device or 'device'}-seconds"
        if budget.unit == "GMACs-epochs":
            smallest = f"{full_step / (task.train_images * GMAC):.3g} {budget.unit}"
        if budget.unit == "fraction" and full_cost:
            smallest = f"{full_step / full_cost:.2%} of full training"
        raise InvalidInput("budget", str(budget), f"must hold at least one step of the full model, {smallest}")
    lr_schedule = _at_budget(task.lr_schedule, budget, budget_cost / max(1, full_cost))

    costs = [
        _with_batch_factor(step_cost(stage.rates), number, stage, task.batch_size, budget, currency)
        for number, stage in enumerate(schedule.stages)
    ]
    step_costs = [_in_currency(cost, budget, currency) for cost in costs]
    if schedule.in_epochs:
        images = [round(stage.batch_factor * task.batch_size) for stage in schedule.stages]
        epoch_costs = [Fraction(task.train_images * cost, size) for cost, size in zip(step_costs, images, strict=True)]
        ends = epoch_slots(schedule, budget, exact_cost, epoch_costs)
    else:
        ends = grid_slots(schedule)
    slots = list(filled_slots(ends, exact_cost, step_costs, full_step))
    times = budget_times(slots, budget_cost, last_stage=len(costs) - 1)
    ends_of_slots = accumulate(slot.cost for slot in slots)
    length = task.lr_schedule.warmup * full_cost
    warmups = [
        WarmupPosition(end - slot.cost, step_costs[slot.stage], length) if shares_trunk else None
        for slot, end in zip(slots, ends_of_slots, strict=True)
    ]
    segments = [
        Segment(
            stage=slot.stage,
            requested=schedule.stages[slot.stage].rates,
            rates=costs[slot.stage].rates,
            steps=slot.steps,
            step_flops=costs[slot.stage].flops,
            start_time=start,
            end_time=end,
            lr_schedule=lr_schedule,
            step_seconds=costs[slot.stage].seconds,
            step_input_seconds=costs[slot.stage].input_seconds,
            step_forward_macs=costs[slot.stage].forward_macs,
            batch_factor=schedule.stages[slot.stage].batch_factor,
            augmentation=schedule.stages[slot.stage].augmentation,
            warmup=warmup,
            frozen=start < task.frozen_until * (1 - ROUNDING),
        )
        for slot, (start, end), warmup in zip(slots, times, warmups, strict=True)
    ]
    return Plan(tuple(segments), budget, budget_cost, full_flops, task.batch_size, task.train_images, currency, full_seconds)


def _at_budget(lr_schedule: LearningRateSchedule, budget: Budget, share: float) -> LearningRateSchedule:
    """The learning-rate schedule of a budget that is a share of full training."""
    longest = lr_schedule.longest_warmup
    if lr_schedule.warmup_of == "full_training" and lr_schedule.warmup > longest * share * (1 + ROUNDING):
        before = ", the part before the cooldown" if lr_schedule.kind == "wsd" else ""
        allowed = f"must be at most {longest:.0%} of the budget {budget}{before}: {longest * share:.3g} of full training"
        raise InvalidInput("recipe.lr_schedule.warmup", lr_schedule.warmup, allowed)
    return lr_schedule.at_budget(share)


def _in_currency(cost: StepCost, budget: Budget, currency: Currency) -> int:
    """Cost of a step as the budget counts it: FLOPs, nanoseconds, or multiply-adds of the forward pass."""
    if budget.unit == "GMACs-epochs":
        if cost.forward_macs is None:
            raise InvalidInput("budget", str(budget), f"needs the cost of forward passes, not counted for {cost.rates}")
        return cost.forward_macs
    try:
        return cost.amount(currency)
    except InvalidInput as error:
        raise InvalidInput("budget", str(budget), error.allowed) from None


def _with_batch_factor(
    cost: StepCost, number: int, stage: Stage, batch_size: int, budget: Budget, currency: Currency
) -> StepCost:
    """The cost of a step of a stage, from that of a step with the plan's batch size."""
    if stage.batch_factor == 1:
        return cost
    field, images = f"stages.{number}.batch_factor", stage.batch_factor * batch_size
    if abs(images - round(images)) > 1e-6 * images:
        reason = f"makes {images:g} images of a batch of {batch_size}; it must make a whole number"
        raise InvalidInput(field, stage.batch_factor, reason)
    if currency == "device_seconds":
        reason = f"must be 1 for the budget {budget}: steps are measured with the recipe's batch size"
        raise InvalidInput(field, stage.batch_factor, reason)
    macs = None if cost.forward_macs is None else cost.forward_macs * round(images) // batch_size
    return StepCost(cost.rates, cost.flops * round(images) // batch_size, forward_macs=macs)


def _planned_stage(segments: Sequence[Segment], batch_size: int, train_images: int) -> PlannedStage:
    """The row of one stage."""
    first, last = segments[0], segments[-1]
    peak = first.lr_schedule.peak_within(first.start_time, last.end_time)
    steps, images_per_step = sum(segment.steps for segment in segments), first.images_per_step(batch_size)
    return PlannedStage(
        stage=first.stage,
        requested=first.requested,
        rates=first.rates,
        steps=steps,
        step_flops=first.step_flops,
        step_forward_macs=first.step_forward_macs,
        flops=sum(segment.flops for segment in segments),
        share=last.end_time - first.start_time,
        seconds=_total_seconds(segments),
        batch_size=images_per_step,
        epochs=steps * images_per_step / train_images,
        augmentation=first.augmentation,
        factors=(first.learning_rate_factor(0), *peak, last.learning_rate_factor(last.steps - 1)),
    )


def _total_seconds(segments: Iterable[Segment]) -> float | None:
    """Sum of the segments' measured seconds; `None` where any was not measured."""
    seconds = [segment.seconds for segment in segments]
    measured = [value for value in seconds if value is not None]
    return sum(measured) if len(measured) == len(seconds) else None
