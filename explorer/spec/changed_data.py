"""Whether a data set is that of an earlier training, by what was noted of its images and classes."""

from __future__ import annotations

from typing import NamedTuple

from explorer.spec.inventory import Inventory, SplitInventory


class DataChange(NamedTuple):
    """The first difference between two data sets."""

    field: str
    """What differs: `data: train images`."""
    now: object
    """What it is now."""
    before: str
    """What it was, to follow `was started with`."""


def changed_data(before: Inventory, now: Inventory) -> DataChange | None:
    """The first difference in classes, images or labels; `None` if the data is the same, wherever it is.

    Args:
        before: what was noted of the data set.
        now: what it contains now.
    """
    if before.target_kind != now.target_kind:
        return DataChange("data: targets", now.target_kind, before.target_kind)
    if before.class_names != now.class_names:
        added = [name for name in now.class_names if name not in before.class_names]
        gone = [name for name in before.class_names if name not in now.class_names]
        changes = [f"new are {', '.join(added)}"] if added else []
        changes += [f"missing are {', '.join(gone)}"] if gone else []
        changed = " and ".join(changes) or "their order is another one"
        return DataChange("data: classes", f"{len(now.class_names)} classes", f"{len(before.class_names)} classes ({changed})")
    for role, split in before.splits.items():
        current, field = now.splits[role], f"data: {role} images"
        if split.images != current.images:
            return DataChange(field, current.images, str(split.images))
        if split.per_class != current.per_class:
            label = next(n for n, (a, b) in enumerate(zip(split.per_class, current.per_class, strict=True)) if a != b)
            name = now.class_names[label]
            return DataChange(
                field, f"{current.per_class[label]} of class {name!r}", f"{split.per_class[label]} images of class {name!r}"
            )
        if _extremes(split) != _extremes(current):
            return DataChange(field, current.images, "as many, but their values have changed")
        if digest := _changed_digest(split, current):
            return DataChange(field, current.images, f"as many, but {digest}")
    return None


def _extremes(split: SplitInventory) -> list[tuple[float, float, float]]:
    """Lowest, mean and highest of each value: inventories of earlier releases have no more of it."""
    return [(value.min, value.mean, value.max) for value in split.values]


def _changed_digest(before: SplitInventory, now: SplitInventory) -> str | None:
    """What differs although the numbers are equal; `None` if nothing does. A digest that is missing says nothing."""
    if before.content and now.content and before.content != now.content:
        return "their contents or labels have changed"
    if before.listing and now.listing and before.listing != now.listing:
        return "their names, sizes or labels have changed"
    return None
