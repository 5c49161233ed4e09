"""What to say of the targets of a data set before a training: classes that a metric leaves out, and values far from 0."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from explorer.spec.inventory import Inventory
from explorer.spec.metric import BUILT_IN

FAR_FROM_0 = 3.0
"""Standard deviations between 0 and the mean of targets, from which a warning is given."""


def target_warnings(inventory: Inventory, kind: str, metrics: Collection[str]) -> tuple[str, ...]:
    """One line for each thing that a user should know before a training.

    Args:
        inventory: what the data set contains.
        kind: kind of targets, `TargetKind`.
        metrics: names of the metrics that are measured.
    """
    if kind == "values":
        return tuple(_far_from_0(inventory))
    return tuple(_left_out_by_auc(inventory)) if "auc" in metrics else ()


def _left_out_by_auc(inventory: Inventory) -> Iterator[str]:
    """Classes or labels of which a split has no images, or only such images."""
    label = BUILT_IN["auc"].label
    for role in ("validation", "test"):
        split = inventory.splits[role]
        counts = dict(zip(inventory.class_names, split.per_class, strict=True)) if split.per_class else {}
        left_out = [name for name, count in counts.items() if count in (0, split.images)]
        if not left_out:
            continue
        measured = len(counts) - len(left_out)
        if not measured:
            yield f"{role} {label} cannot be measured: of each class, the split has no images or no others"
            continue
        kinds = [text for text, count in (("no images", 0), ("only images", split.images)) if count in counts.values()]
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        names = f"{left_out[0]!r}{more}"
        yield f"{role} {label}: mean over {measured} of {len(counts)} classes; the split has {' or '.join(kinds)} of {names}"


def _far_from_0(inventory: Inventory) -> Iterator[str]:
    """Values whose mean over the training images is more than `FAR_FROM_0` standard deviations away from 0."""
    values = zip(inventory.class_names, inventory.train.values, strict=True) if inventory.train.values else ()
    far = [(name, value) for name, value in values if value.std is not None and abs(value.mean) > FAR_FROM_0 * value.std]
    if not far:
        return
    name, value = far[0]
    more = f" (and {len(far) - 1} more)" if len(far) > 1 else ""
    yield (
        f"targets {name!r}{more} are far from 0: mean {value.mean:.4g}, standard deviation {value.std:.3g}. A model starts "
        "from predictions near 0 and may need most of its steps to reach the mean: subtract it from the targets, and divide "
        "them by the standard deviation"
    )
