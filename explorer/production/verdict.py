"""What a finished run is held against: its plan, and what the sweep measured with the schedule."""

from __future__ import annotations

from typing import Any

from explorer.differences import first_difference
from explorer.plan import Plan
from explorer.spec.schedule import Schedule
from explorer.spec.task import TaskSpec
from explorer.training.checkpoint import MACHINE_FIELDS


def other_task(schedule: Schedule, task: TaskSpec) -> str | None:
    """Why what a schedule was measured to reach says nothing of a task.

    Returns:
        A clause that names the first field that differs with both values (`recipe.epochs is 300, was 40`); None where the
        task is that of the measurement.
    """
    provenance = schedule.provenance
    if provenance is None:
        return "the schedule's file holds no measurement"
    if provenance.task is None:
        return "the schedule's file does not say on which task it was measured"
    measured = provenance.task.measured_as(provenance)
    difference = first_difference(measured.model_dump(mode="json"), task.model_dump(mode="json"), MACHINE_FIELDS)
    if difference is None:
        return None
    field, was, is_now = difference
    return f"the schedule was measured on another task ({field} is {is_now}, was {was})"


def transfer_warning(schedule: Schedule, task: TaskSpec) -> str | None:
    """What to tell before a measured schedule is executed on another task; see docs/howto/proxy.md."""
    reason = other_task(schedule, task)
    if schedule.provenance is None or reason is None:
        return None
    settings = f"learning rate {task.recipe.learning_rate:.4g} and batch size {task.recipe.batch_size}"
    return f"{reason}: the accuracy in its file is no promise here, and {settings} are taken from there, too"


def verdict(schedule: Schedule, task: TaskSpec, plan: Plan, result: dict[str, Any]) -> list[str]:
    """Realised against planned cost, and realised against predicted accuracy, a line each.

    Args:
        schedule: that was executed, with its provenance.
        task: on which.
        plan: what was to be done.
        result: as `train_to_folder` returns.
    """
    planned_seconds = f", planned {plan.seconds:.1f} s" if plan.seconds else ""
    lines = [
        f"cost: {result['cost']:.3%} of full training, planned {plan.cost:.3%}; "
        f"{result['steps']:,} steps in {result['train_seconds']:.1f} s{planned_seconds}",
        f"validation accuracy {result['validation_accuracy']:.4%}, test accuracy {result['test_accuracy']:.4%}",
    ]
    provenance, reason = schedule.provenance, other_task(schedule, task)
    if provenance is None or reason:
        return [*lines, f"no prediction: {reason}"]
    if str(provenance.budget) != str(plan.budget):
        return [*lines, f"no prediction: the sweep measured this schedule at {provenance.budget}, not at {plan.budget}"]
    if provenance.expected_test_accuracy and provenance.mean_test_accuracy is not None:
        low, high = provenance.expected_test_accuracy
        inside = "inside" if low <= result["test_accuracy"] <= high else "OUTSIDE"
        lines.append(
            f"predicted test accuracy {provenance.mean_test_accuracy:.2%}, for a single run {low:.2%} to {high:.2%} "
            f"(95 %, {provenance.seeds} seeds): {inside}"
        )
    if provenance.seed == result["seed"]:
        same = provenance.validation_accuracy == result["validation_accuracy"]
        lines.append(
            f"the sweep measured validation accuracy {provenance.validation_accuracy:.4%} with seed {provenance.seed}: "
            + ("reproduced exactly" if same else "NOT reproduced (other workers, another machine, device or version?)")
        )
    return lines
