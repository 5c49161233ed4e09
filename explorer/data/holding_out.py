"""Setting a part of the training images aside for validation, and one for test where a data set has none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.errors import InvalidInput

HELD_OUT_FRACTION = 0.1
"""Fraction of the training images that is set aside for validation, and for test."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """Numbers of the training images that are trained on and of those that are set aside, each in increasing order."""

    train: list[int]
    validation: list[int]
    """Empty if no validation images are set aside."""
    test: list[int]
    """Empty if no test images are set aside."""


def divide(labels: Sequence[int], class_names: Sequence[str], *, validation: bool, test: bool) -> Division:
    """Set a tenth of the training images aside for validation and a tenth for test, as asked for; the same for every seed.

    The parts are disjoint and stratified. The validation images are the same whether or not test images are set aside as well.
    Where a tenth of all images would be fewer than one per class, a tenth of each class is set aside, rounded, but at least one
    image.

    Args:
        labels: label of each training image.
        class_names: names of the classes, for messages.
        validation: whether to set validation images aside.
        test: whether to set test images aside.

    Raises:
        InvalidInput: naming the class that has too few images to set one aside for each part and to train on another.
    """
    _check_sizes(labels, class_names, validation=validation, test=test)
    kept, sizes = list(range(len(labels))), Counter(labels)
    parts: list[list[int]] = []
    for wanted in (validation, test):
        kept, part = _set_aside(kept, labels, sizes) if wanted else (kept, [])
        parts.append(part)
    return Division(train=kept, validation=parts[0], test=parts[1])


def _check_sizes(labels: Sequence[int], class_names: Sequence[str], *, validation: bool, test: bool) -> None:
    label, smallest = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    if smallest <= validation + test:
        field = "data.validation_split" if validation else "data.test_split"
        aside = "one for validation and one for test" if validation and test else "one"
        images = "1 image" if smallest == 1 else f"{smallest} images"
        reason = f"the class {class_names[label]!r} has only {images}: too few to set {aside} aside and to train on another"
        raise InvalidInput(field, None, f"{reason}; name a split of its own, or add images")


def _set_aside(numbers: list[int], labels: Sequence[int], sizes: Counter[int]) -> tuple[list[int], list[int]]:
    """The image numbers that stay and those that are set aside: a tenth of `sizes`, the images of each class at the start."""
    from sklearn.model_selection import train_test_split  # not needed by data sources that are split already

    count = math.ceil(HELD_OUT_FRACTION * sizes.total())
    if count >= len(sizes):
        stratify = [labels[number] for number in numbers]
        kept, aside = train_test_split(numbers, test_size=count, stratify=stratify, random_state=0)
        return sorted(kept), sorted(aside)
    kept, aside = [], []
    for label, size in sizes.items():
        members = [number for number in numbers if labels[number] == label]
        stay, leave = train_test_split(members, test_size=max(1, round(HELD_OUT_FRACTION * size)), random_state=0)
        kept += stay
        aside += leave
    return sorted(kept), sorted(aside)
