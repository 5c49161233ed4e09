"""What a finished run is held against: its plan, and what the sweep measured with the schedule."""

from __future__ import annotations

from typing import Any

from explorer.errors import InvalidInput, validated
from explorer.plan import Plan
from explorer.schedule import Schedule
from explorer.training.task import TaskSpec

ELSEWHERE = ("data.root", "data.workers", "recipe.compile")
"""Fields that may differ between machines without making it another task."""


def other_task(schedule: Schedule, task: TaskSpec) -> str | None:
    """What makes the task another one than the schedule was measured on; None where it is the same, or nobody knows.

    Returns:
        The first field that differs with both values: `recipe.epochs is 300, was 40`.
    """
    provenance = schedule.provenance
    if provenance is None or not provenance.task:
        return None
    try:
        measured = validated(TaskSpec, provenance.task, "provenance.task").measured_as(provenance)
    except InvalidInput as error:
        return f"provenance.task is of another release ({error.field})"
    was, is_now = _flat(measured.model_dump(mode="json")), _flat(task.model_dump(mode="json"))
    for field in dict.fromkeys([*is_now, *was]):
        if field not in ELSEWHERE and was.get(field) != is_now.get(field):
            return f"{field} is {is_now.get(field)}, was {was.get(field)}"
    return None


def transfer_warning(schedule: Schedule, task: TaskSpec) -> str | None:
    """What to tell before a schedule is executed on another task than it was measured on."""
    difference = other_task(schedule, task)
    if difference is None:
        return None
    return (
        f"the schedule was measured on another task ({difference}); what it reached there says nothing certain about this one: "
        "a sweep here would"
    )


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
    provenance = schedule.provenance
    if provenance is None:
        return lines
    if provenance.budget != str(plan.budget):
        return [*lines, f"no prediction: the sweep measured this schedule at {provenance.budget}, not at {plan.budget}"]
    difference = other_task(schedule, task)
    if difference is not None:
        return [*lines, f"no prediction: the sweep measured this schedule on another task ({difference})"]
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


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted name."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return leaves
