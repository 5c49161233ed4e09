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
    for loss, end in zip(outcome.losses, outcome.segment_ends, strict=True):
        flops = _flops_at(end, outcome, record.trial.budget.of(outcome.full_flops))
        points.append(curve_point(_steps_at(flops, outcome), flops / outcome.full_flops, loss))
    return points


def results(outcome: Outcome) -> Point:
    """What was measured of a finished trial, at its last step."""
    measured = {
        "validation_accuracy": outcome.validation_accuracy,
        "test_accuracy": outcome.test_accuracy,
        "train_seconds": outcome.train_seconds,
        "executed_seconds": outcome.executed_seconds,
        "evaluation_seconds": outcome.evaluation_seconds,
        "peak_memory": outcome.peak_memory,
    }
    known = {name: float(value) for name, value in measured.items() if value is not None}
    return Point(outcome.steps, {"cost": outcome.planned_flops / outcome.full_flops, **known})


def curve_point(steps: int, cost: float, loss: float) -> Point:
    """The point after a segment: steps so far, cost so far in full trainings, and the segment's mean training loss."""
    return Point(steps, {"cost": cost, "train_loss": loss})


def _flops_at(time: float, outcome: Outcome, budget_flops: int) -> float:
    """Cost at a budget time. The last stage's time is stretched to end at exactly 1; see `explorer.plan`."""
    before_last = sum(stage.flops for stage in outcome.stages[:-1])
    start_of_last = before_last / budget_flops
    if time <= start_of_last:
        return time * budget_flops
    return before_last + (time - start_of_last) / (1 - start_of_last) * outcome.stages[-1].flops


def _steps_at(flops: float, outcome: Outcome) -> int:
    """Number of steps after which a trial has cost this much."""
    steps = 0
    for stage in outcome.stages:
        if flops <= stage.flops:
            return steps + round(flops / stage.step_flops)
        steps, flops = steps + stage.steps, flops - stage.flops
    return steps
