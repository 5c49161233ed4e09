"""Plans: what a schedule becomes for one task and one budget. Pure functions and data; neither torch nor ray is imported.

All decisions of budgeted training are made here, where they can be checked without training: the plan costs the budget to
within one full-model step and never more, rates never fall, the last segment is the full model, and the learning rate reaches
zero. The trainer executes the segments and decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, groupby
from typing import NamedTuple, Protocol

from explorer.errors import InvalidInput
from explorer.segment import PlannedStage, Segment, StepCost
from explorer.spec.budget import GMAC, Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule

__all__ = ["Plan", "PlannedStage", "PlannedTask", "Segment", "StepCost", "compile_plan"]


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
        """Planned cost as a fraction of full training."""
        return self.flops / self.full_flops

    def epochs(self, steps: int) -> float:
        """Passes over the data in `steps` steps."""
        return steps * self.batch_size / self.train_images

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
        return [_planned_stage(list(group)) for _, group in groupby(self.segments, key=lambda segment: segment.stage)]

    def digest(self) -> str:
        """Hash of the segments, without stage numbers and measured seconds: equal plans train equal models."""
        omitted = ("step_seconds", "step_forward_macs", "lr_schedule")
        rows = [
            {
                **{name: value for name, value in asdict(segment).items() if name not in omitted},
                "stage": 0,
                "requested": segment.requested.model_dump(),
                "rates": segment.rates.model_dump(),
                # The key is the field's name in earlier ledgers and checkpoints: their digests must stay the same.
                "curve": segment.lr_schedule.model_dump(),
            }
            for segment in self.segments
        ]
        text = json.dumps({"segments": rows, "batch_size": self.batch_size}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def compile_plan(schedule: Schedule, task: PlannedTask, budget: Budget, step_cost: Callable[[Rates], StepCost]) -> Plan:
    """Compile a schedule for one task and budget.

    The budget is cut into `schedule.grid` equal slots of cost, in the budget's own currency: FLOPs, nanoseconds for a budget in
    device-seconds, or multiply-adds of forward passes for one in GMACs-epochs. Each slot is filled with whole steps at its
    stage's rates; the remainder of a slot passes to the next one. Early stages leave room for one full-model step, so that the
    last segment is always the full model. All costs are integers.

    Args:
        schedule: stages with requested rates.
        task: size of the data, epochs, batch size and learning-rate schedule.
        budget: the cost to meet.
        step_cost: cost of one step at requested rates, with the realised rates, and with measured seconds for a budget in
            device-seconds.

    Raises:
        InvalidInput: when the budget is smaller than one step of the full model or larger than ten full trainings, or is in
            device-seconds and the steps were not measured.
    """
    full = step_cost(Rates())
    full_flops = int(task.epochs * task.train_images * full.flops / task.batch_size)
    full_steps = task.epochs * task.train_images / task.batch_size
    in_other_currency = budget.unit in ("GMACs-epochs", "device-seconds")
    full_cost = int(full_steps * _in_currency(full, budget)) if in_other_currency else full_flops
    budget_cost = budget.of(full_cost, task.train_images)
    full_step = _in_currency(full, budget)
    if budget_cost < full_step:
        smallest = f"{full_step} {'ns' if in_other_currency else 'FLOPs'}"
        if budget.unit == "GMACs-epochs":
            smallest = f"{full_step / (task.train_images * GMAC):.3g} {budget.unit}"
        if budget.unit == "fraction" and full_flops:
            smallest = f"{full_step / full_flops:.2%} of full training"
        raise InvalidInput("budget", str(budget), f"must hold at least one step of the full model, {smallest}")

    costs = [step_cost(stage.rates) for stage in schedule.stages]
    slots = list(_filled_slots(schedule, budget_cost, [_in_currency(cost, budget) for cost in costs], full_step))
    times = _budget_times(slots, budget_cost, last_stage=len(costs) - 1)
    segments = [
        Segment(
            stage=slot.stage,
            requested=schedule.stages[slot.stage].rates,
            rates=costs[slot.stage].rates,
            steps=slot.steps,
            step_flops=costs[slot.stage].flops,
            start_time=start,
            end_time=end,
            lr_schedule=task.lr_schedule,
            step_seconds=costs[slot.stage].seconds,
            step_forward_macs=costs[slot.stage].forward_macs,
        )
        for slot, (start, end) in zip(slots, times, strict=True)
    ]
    return Plan(tuple(segments), budget, budget_cost, full_flops, task.batch_size, task.train_images)


class _Slot(NamedTuple):
    """A grid slot that holds at least one step."""

    stage: int
    steps: int
    cost: int
    """Cost of its steps in the budget's currency."""


def _in_currency(cost: StepCost, budget: Budget) -> int:
    """Cost of a step in the budget's currency: FLOPs, nanoseconds, or multiply-adds of the forward pass."""
    if budget.unit == "GMACs-epochs":
        if cost.forward_macs is None:
            raise InvalidInput("budget", str(budget), f"needs the cost of forward passes, not counted for {cost.rates}")
        return cost.forward_macs
    if budget.counted:
        return cost.flops
    if cost.seconds is None:
        command = "explorer calibrate --task TASK --schedule SCHEDULE, then --calibration calibration.json here"
        raise InvalidInput("budget", str(budget), f"needs measured step times for rates {cost.rates}: {command}")
    return max(1, round(cost.seconds * 1e9))


def _filled_slots(schedule: Schedule, budget_cost: int, step_costs: Sequence[int], full_step: int) -> Iterator[_Slot]:
    """Fill each grid slot with whole steps of its stage."""
    last_stage = len(step_costs) - 1
    spent = 0
    stage_of_slot = [stage for stage, slots in enumerate(schedule.slots()) for _ in range(slots)]
    for number, stage in enumerate(stage_of_slot, start=1):
        limit = budget_cost * number // schedule.grid
        if stage < last_stage:
            limit = min(limit, budget_cost - full_step)
        steps = max(0, limit - spent) // step_costs[stage]
        if steps:
            spent += steps * step_costs[stage]
            yield _Slot(stage, steps, steps * step_costs[stage])


def _budget_times(slots: Sequence[_Slot], budget_cost: int, last_stage: int) -> Iterator[tuple[float, float]]:
    """Budget time at the start and the end of each slot's steps.

    A plan may end up to one step short of the budget. The last stage's time is stretched to end at exactly 1, so that the
    learning rate reaches zero; earlier stages, which schedules share, must not depend on how the plan ends.
    """
    spent = sum(slot.cost for slot in slots)
    spent_before_last = sum(slot.cost for slot in slots if slot.stage < last_stage)
    start_of_last = spent_before_last / budget_cost

    def time(cost: int, stage: int) -> float:
        if stage < last_stage:
            return cost / budget_cost
        share = (cost - spent_before_last) / (spent - spent_before_last)
        return start_of_last + (1 - start_of_last) * share

    ends = list(accumulate(slot.cost for slot in slots))
    for slot, end in zip(slots, ends, strict=True):
        yield time(end - slot.cost, slot.stage), time(end, slot.stage)


def _planned_stage(segments: Sequence[Segment]) -> PlannedStage:
    """The row of one stage."""
    first, last = segments[0], segments[-1]
    peak = first.lr_schedule.peak_within(first.start_time, last.end_time)
    return PlannedStage(
        stage=first.stage,
        requested=first.requested,
        rates=first.rates,
        steps=sum(segment.steps for segment in segments),
        step_flops=first.step_flops,
        step_forward_macs=first.step_forward_macs,
        flops=sum(segment.flops for segment in segments),
        share=last.end_time - first.start_time,
        seconds=_total_seconds(segments),
        factors=(first.learning_rate_factor(0), *peak, last.learning_rate_factor(last.steps - 1)),
    )


def _total_seconds(segments: Iterable[Segment]) -> float | None:
    """Sum of the segments' measured seconds; `None` where any was not measured."""
    seconds = [segment.seconds for segment in segments]
    measured = [value for value in seconds if value is not None]
    return sum(measured) if len(measured) == len(seconds) else None
