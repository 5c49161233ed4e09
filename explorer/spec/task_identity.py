"""Which tasks are the same: what training depends on besides its plan, its seed and the machine."""

from __future__ import annotations

from typing import Any

from explorer.references import is_reference
from explorer.spec.inventory import Inventory
from explorer.spec.task import TaskSpec

TUNED = ("learning_rate", "batch_size")
"""Settings of the recipe that every sweep searches."""


def described_task(task: TaskSpec, inventory: Inventory) -> dict[str, Any]:
    """What training depends on besides the segments of its plan, as plain data; equal for tasks that are the same.

    It does not contain the length of full training, the learning-rate schedule (segments have both), the number of processes
    that read images, and where decoded images are kept. Data is identified by the listings of its splits, wherever it is; by
    its folder where a source has no listings. Weights are identified by their content where that is known.
    """
    spec = task.model_dump(mode="json")
    del spec["data"]["num_workers"], spec["data"]["resident"]
    if task.model.weights_sha256:
        del spec["model"]["checkpoint"]
    spec["data"]["cache"] = (spec["data"]["cache"] or {}).get("short_side")  # nothing else about it changes pixels
    if is_listed(inventory):
        spec["data"]["root"] = [split.listing for split in inventory.splits.values()]
    for described_by_segments in ("epochs", "lr_schedule"):
        del spec["recipe"][described_by_segments]
    return spec


def is_listed(inventory: Inventory) -> bool:
    """Whether the data of all splits is identified by digests, wherever it is."""
    return all(split.listing for split in inventory.splits.values())


def is_same_task(one: TaskSpec, data: Inventory, other: TaskSpec, other_data: Inventory) -> bool:
    """Whether learning rate and batch size that suit one task suit the other: all that a sweep does not tune is equal.

    Tasks whose data has no digests count as different.

    Args:
        one: a task.
        data: what its data set contains.
        other: another task.
        other_data: what the data set of the other contains.
    """
    if not (is_listed(data) and is_listed(other_data)):
        return False
    described = [
        {**described_task(task, inventory), "epochs": task.recipe.epochs}
        for task, inventory in ((one, data), (other, other_data))
    ]
    for task, content in zip((one, other), described, strict=True):
        content["lr_schedule"] = task.recipe.lr_schedule.model_dump(exclude={"kind"})
        for name in (*TUNED, "compile"):
            del content["recipe"][name]
    return described[0] == described[1]


def has_foreign_code(task: TaskSpec) -> bool:
    """Whether a setting names an object or a file of the user's (`package.module:name`, weights), which may have changed."""
    if task.imports:
        return True
    known = {"checkpoint"} if task.model.weights_sha256 else set()
    pending: list[Any] = [task.model_dump(mode="json", exclude={"data": {"root", "cache", "skip_files"}, "model": known})]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and (is_reference(value) or value.startswith(("local-dir:", "hf-hub:", "/"))):
            return True
    has_weights = task.objective.teacher is not None and task.objective.teacher.weights is not None
    return has_weights or "checkpoint_path" in task.model.options
