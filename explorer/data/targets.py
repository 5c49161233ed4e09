"""Targets of every kind: how they are read and checked, which part of them belongs to a split, and by what they are stratified.

Shapes: N images, K classes or values.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from explorer.data.labels import (
    GivenSplit,
    check_held_out,
    class_names,
    given_values,
    image_name,
    read_labels,
    some,
)
from explorer.errors import InvalidInput
from explorer.spec.data import TargetKind
from explorer.spec.inventory import ValueRange

TargetRows = NDArray[np.float32]
"""(N, K): zeros and ones for `labels`, numbers for `values`."""
Targets = Sequence[int] | TargetRows
"""The targets of some images: one class each, or one row each."""

MIN_STRATUM = 3
"""Images from which on those of a rare label are divided apart from the others: one each to train, validate and test on."""


def read_targets(given: GivenSplit, kind: TargetKind) -> Targets:
    """The target of every image of a split. Images are decoded only where the data set has no list of targets.

    Raises:
        InvalidInput: when a target is missing, or not what its kind allows, or their number is not that of the images.
    """
    if kind == "class":
        return read_labels(given)
    data, values = given.data, given_values(given, "targets")
    rows: list[TargetRows] = []
    for number, value in enumerate(values):
        row = _row(value)
        wrong = _wrong(row, kind, rows[0] if rows else row)
        if row is None or wrong:
            reason = f"the target of {image_name(data, number)} is {_shown(value)}; {wrong}"
            raise InvalidInput(given.field, given.split, reason)
        rows.append(row)
    return np.stack(rows)


def _row(value: Any) -> TargetRows | None:
    """A target as a row of numbers, (K,); `None` if it is not one."""
    try:
        row: TargetRows = np.atleast_1d(np.asarray(value, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError):
        return None
    return row if row.ndim == 1 and row.size else None


def _wrong(row: TargetRows | None, kind: TargetKind, first: TargetRows | None) -> str:
    """What a target should be, if it is not; empty if it is."""
    if row is None:
        return "it must be a number for each " + ("class" if kind == "labels" else "value")
    if first is not None and row.size != first.size:
        return f"it has {row.size} numbers, and those before have {first.size}"
    if not np.isfinite(row).all():
        return "it must be finite"
    if kind == "labels" and not np.isin(row, (0, 1)).all():
        return "it must be 0 or 1 for each class"
    return ""


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def count_of(targets: Targets) -> int:
    """K of targets that are rows."""
    assert isinstance(targets, np.ndarray)
    return int(targets.shape[1])


def part_of(targets: Targets, numbers: Iterable[int]) -> Targets:
    """The targets of some of the images."""
    if isinstance(targets, np.ndarray):
        return targets[np.fromiter(numbers, np.int64)]
    return array("q", (targets[number] for number in numbers))


def text_of(target: Any) -> str:
    """A target as text, for digests."""
    return ",".join(f"{value:.9g}" for value in target.tolist()) if isinstance(target, np.ndarray) else str(target)


def names_of(train: GivenSplit, targets: Targets, kind: TargetKind) -> tuple[str, ...]:
    """Names of the classes or values: those of the data set, or their numbers.

    Raises:
        InvalidInput: when there are not as many names as numbers in a row; see also `class_names`.
    """
    if kind == "class":
        return class_names(train, cast(Sequence[int], targets))
    own, count = tuple(map(str, getattr(train.data, "classes", None) or ())), count_of(targets)
    if own and len(own) != count:
        raise InvalidInput(train.field, train.split, f"has {len(own)} names ({some(own)}) for targets of {count} numbers")
    return own or tuple(map(str, range(count)))


def check_targets_of(
    held_out: GivenSplit, targets: Targets, names: Sequence[str], train_targets: Targets, kind: TargetKind
) -> None:
    """Check that the targets of a held-out split mean what those of the training images mean.

    Raises:
        InvalidInput: when rows have other names or another length, or a class that no training image has; see also
            `check_held_out`.
    """
    if kind == "class":
        return check_held_out(held_out, cast(Sequence[int], targets), names, cast(Sequence[int], train_targets))
    own = tuple(map(str, getattr(held_out.data, "classes", None) or names))
    if count_of(targets) != len(names) or own != tuple(names):
        reason = (
            f"has targets of {count_of(targets)} numbers ({some(own)}), and the training images {len(names)} ({some(names)})"
        )
        raise InvalidInput(held_out.field, held_out.split, reason)
    if kind == "labels":
        unknown = np.flatnonzero(np.asarray(targets).any(0) & ~np.asarray(train_targets).any(0))
        if unknown.size:
            reason = f"has classes that no training image has: {some([names[number] for number in unknown.tolist()])}"
            raise InvalidInput(held_out.field, held_out.split, reason)


def per_class_of(targets: Targets, kind: TargetKind, classes: int) -> tuple[int, ...]:
    """Number of images of each class, of which an image with several labels counts for each; empty for values."""
    if kind == "values":
        return ()
    if isinstance(targets, np.ndarray):
        return tuple(int(count) for count in targets.sum(0))
    counts = Counter(targets)
    return tuple(counts[label] for label in range(classes))


def ranges_of(targets: Targets, kind: TargetKind) -> tuple[ValueRange, ...]:
    """Lowest, mean, highest and standard deviation of each value; empty for other kinds."""
    if kind != "values":
        return ()
    rows = np.asarray(targets, np.float64)
    columns = zip(*(statistic.tolist() for statistic in (rows.min(0), rows.mean(0), rows.max(0), rows.std(0))), strict=True)
    return tuple(ValueRange(min=low, mean=mean, max=high, std=std) for low, mean, high, std in columns)


def strata_of(targets: Targets, kind: TargetKind, names: Sequence[str]) -> tuple[Sequence[int], tuple[str, ...]]:
    """By what images are divided into parts with equal shares: a number for each image, and the name of each number.

    - `class`: the class.
    - `labels`: the rarest of an image's classes, or that it has none; where fewer than three images share it, they are together
      with those of the largest stratum.
    - `values`: all images are one stratum, so that a part of them is drawn at random.
    """
    if not isinstance(targets, np.ndarray):
        return targets, tuple(names)
    if kind == "values":
        return [0] * len(targets), ("all images",)
    images_K = targets.sum(0)
    rarest_N = np.where(targets.any(1), np.where(targets > 0, images_K, np.inf).argmin(1), -1)
    sizes = Counter(rarest_N.tolist())
    largest = max(sizes, key=lambda label: (sizes[label], -label))
    strata = [label if sizes[label] >= MIN_STRATUM else largest for label in rarest_N.tolist()]
    numbers = {label: number for number, label in enumerate(sorted(set(strata)))}
    return [numbers[label] for label in strata], tuple(names[label] if label >= 0 else "no class" for label in numbers)
