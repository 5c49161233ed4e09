"""The slots of a budget: where each of them ends, how many steps it holds, and at which budget time. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from explorer.errors import InvalidInput
from explorer.spec.budget import Budget
from explorer.spec.schedule import Schedule


class SlotEnd(NamedTuple):
    """Where a grid slot ends, or the part of one that belongs to a stage."""

    stage: int
    end: Fraction
    """Fraction of the budget at the end."""


class Slot(NamedTuple):
    """A grid slot that holds at least one step."""

    stage: int
    steps: int
    cost: int
    """Cost of its steps in the budget's currency."""


def grid_slots(schedule: Schedule) -> list[SlotEnd]:
    """The slots of the grid, each of one stage."""
    stage_of_slot = [stage for stage, slots in enumerate(schedule.slots()) for _ in range(slots)]
    return [SlotEnd(stage, Fraction(number, schedule.grid)) for number, stage in enumerate(stage_of_slot, start=1)]


def epoch_slots(
    schedule: Schedule, budget: Budget, budget_cost: int | Fraction, epoch_costs: Sequence[Fraction]
) -> list[SlotEnd]:
    """The slots of the grid for stages that are written in epochs, divided where a stage ends.

    Args:
        schedule: stages in epochs.
        budget: the budget, for messages.
        budget_cost: its cost as a whole number.
        epoch_costs: cost of an epoch at each stage, in the same unit.

    Raises:
        InvalidInput: when the epochs cost more than the budget.
    """
    epochs = [stage.epochs or 0.0 for stage in schedule.stages]
    costs = [Fraction(each) * cost for each, cost in zip(epochs, epoch_costs, strict=True)]
    total = sum(costs)
    if total > budget_cost:
        cost = f"cost {float(total / budget_cost):.1%} of the budget {budget}"
        reason = f"{cost}; write fewer epochs, or duration_ratio, which is the share of any budget"
        raise InvalidInput("schedule: epochs", ", ".join(f"{each:g}" for each in epochs), reason)
    ends = [cost / total for cost in accumulate(costs)]
    cuts = sorted({*ends, *(Fraction(number, schedule.grid) for number in range(1, schedule.grid + 1))} - {Fraction(0)})
    return [SlotEnd(next(stage for stage, end in enumerate(ends) if cut <= end), cut) for cut in cuts]


def filled_slots(
    slot_ends: Sequence[SlotEnd], budget_cost: int | Fraction, step_costs: Sequence[int], full_step: int
) -> Iterator[Slot]:
    """Fill each grid slot with whole steps of its stage.

    Given the exact costs of two budgets, slots that end after equal costs hold equal steps.
    """
    last_stage = len(step_costs) - 1
    spent = 0
    for stage, end in slot_ends:
        limit = budget_cost * end.numerator // end.denominator
        if stage < last_stage:
            limit = min(limit, int(budget_cost) - full_step)
        steps = max(0, limit - spent) // step_costs[stage]
        if steps:
            spent += steps * step_costs[stage]
            yield Slot(stage, steps, steps * step_costs[stage])


def budget_times(slots: Sequence[Slot], budget_cost: int, last_stage: int) -> Iterator[tuple[float, float]]:
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
