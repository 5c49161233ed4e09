"""The points of a trial that loggers show: from the reports of a running trial, and from the record of a finished one."""

from __future__ import annotations

from explorer.ledger import Outcome, Record
from explorer.loggers import Point


def learning_curve(record: Record) -> list[Point]:
    """The training loss after each segment of a finished trial; empty for a trial that failed.

    A record holds losses by budget time. Cost and steps follow from it by the stages, as `explorer.plan` makes budget time
    from cost.
    """
    outcome = record.outcome
    if outcome is None:
        return []
    points = []
    budget = _budget_cost(record, outcome)
    for loss, end in zip(outcome.losses, outcome.segment_ends, strict=True):
        cost = _cost_at(end, outcome, budget)
        points.append(curve_point(_steps_at(cost, outcome), cost, loss))
    return points


def results(outcome: Outcome) -> Point:
    """What was measured of a finished trial, at its last step."""
    measured = {
        **outcome.metric.logged(outcome.validation, outcome.test, outcome.also),
        "train_seconds": outcome.train_seconds,
        "executed_seconds": outcome.executed_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "peak_memory": outcome.peak_memory,
    }
    known = {name: float(value) for name, value in measured.items() if value is not None}
    return Point(outcome.steps, {"cost": outcome.planned_cost, **known})


def curve_point(steps: int, cost: float, loss: float) -> Point:
    """The point after a segment: steps so far, cost so far in full trainings, and the segment's mean training loss."""
    return Point(steps, {"cost": cost, "train_loss": loss})


def _budget_cost(record: Record, outcome: Outcome) -> float:
    """The budget of a trial as a fraction of full training.

    That of a budget in money is not in the record, nor is the full training of a proxy; the cost of the plan is less than a
    step below it.
    """
    budget = record.trial.budget
    if budget.unit == "money" or record.trial.proxy is not None:
        return outcome.planned_cost
    full = outcome.full_flops if outcome.currency == "flops" else int((outcome.full_seconds or 0.0) * 1e9)
    return budget.of(full) / full


def _cost_at(time: float, outcome: Outcome, budget: float) -> float:
    """Cost at a budget time. The last stage's time is stretched to end at exactly 1; see `explorer.plan`."""
    *before, last = outcome.stage_costs()
    start_of_last = sum(before) / budget
    if time <= start_of_last:
        return time * budget
    return sum(before) + (time - start_of_last) / (1 - start_of_last) * last


def _steps_at(cost: float, outcome: Outcome) -> int:
    """Number of steps after which a trial has cost this much."""
    steps = 0
    for stage, stage_cost in zip(outcome.stages, outcome.stage_costs(), strict=True):
        if cost <= stage_cost:
            return steps + round(cost / stage_cost * stage.steps)
        steps, cost = steps + stage.steps, cost - stage_cost
    return steps
