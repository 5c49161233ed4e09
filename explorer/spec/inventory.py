"""What a data set contains, as it was found before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from explorer.spec.base import Frozen
from explorer.spec.data import TargetKind

SHOWN_CLASSES = 5
"""Classes that the summary names."""


class ValueRange(Frozen):
    """The values that the images of a split are to be given, of one kind."""

    min: float
    mean: float
    max: float
    std: float | None = None
    """Standard deviation; `None` in files of earlier releases."""

    def __str__(self) -> str:
        return f"{self.min:.4g} to {self.max:.4g}, mean {self.mean:.4g}"


class SplitInventory(Frozen):
    """The images of one split: training, validation or test."""

    name: str
    """The split as the user names it (`train`, `val`), or what it is taken from (`a tenth of train`)."""
    images: int
    """Images that are trained or evaluated on."""
    per_class: tuple[int, ...]
    """Number of images of each class, in the order of `Inventory.class_names`; an image with several counts for each. Empty
    where targets are values."""
    values: tuple[ValueRange, ...] = ()
    """Range of each value, in the order of `Inventory.class_names`. Empty where targets are classes."""
    modes: dict[str, int] = {}
    """Number of images of each Pillow mode (`RGB`, `L`, `I;16`). Empty if images were not opened."""
    sizes: dict[str, int] = {}
    """Number of images of each size (`500x375`, width first), the most frequent ones first; the others as `other`. Empty if
    images were not opened."""
    opened: int = 0
    """Number of images behind `modes` and `sizes`: all of them after a check, else a sample."""
    passed_over: dict[str, int] = {}
    """Number of files that are not images of the split, by reason (`.txt: not an image format`)."""
    remarks: dict[str, int] = {}
    """Number of images (or class folders) that a user may not expect, by what is special about them; those that are opened are
    counted among the `opened` images."""
    unreadable: tuple[str, ...] = ()
    """Images that are left out because they cannot be read or stand in `data.skip_files`, relative to the root of the data
    set."""
    listing: str = ""
    """Digest of the names, sizes and labels of the images: equal on every machine that sees the same data."""
    content: str = ""
    """Digest of the contents and labels of all images, whatever the names. Empty if contents were not read."""

    @model_serializer(mode="wrap")
    def _without_values(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Splits of classes are written as they were before targets could be values."""
        content: dict[str, Any] = handler(self)
        return content if self.values else {name: value for name, value in content.items() if name != "values"}

    @property
    def description(self) -> str:
        """Images per class or range of the values, modes and sizes in one line."""
        parts = [str(each) for each in self.values[:1]]
        if len(self.values) > 1:
            parts = [f"first value {parts[0]}"]
        if self.per_class:
            fewest, most = min(self.per_class), max(self.per_class)
            parts = [f"{fewest:,} per class" if fewest == most else f"{fewest:,} to {most:,} per class"]
        if self.modes:
            parts.append(_some([f"{mode} {count:,}" if len(self.modes) > 1 else mode for mode, count in self.modes.items()], 4))
            parts.append(_some([f"{size} {count:,}" if len(self.sizes) > 1 else size for size, count in self.sizes.items()], 3))
            if self.opened < self.images:
                parts.append(f"{self.opened:,} images opened")
        return ", ".join(parts)


class Inventory(Frozen):
    """What a data set contains, as it was found before any training."""

    source: str
    """The data set as the user named it: `data.name`."""
    root: str | None = None
    """Folder of the data set as the user named it."""
    class_names: tuple[str, ...]
    """Names of the classes in the order of their labels: the first is label 0. Names of the values, where targets are such."""
    target_kind: TargetKind = "class"
    """What each image is given: one class, any number of classes, or values."""
    train: SplitInventory
    validation: SplitInventory
    test: SplitInventory
    overlaps: dict[str, int] = {}
    """Number of images with the same content in two splits (`train and test`). Empty if there are none or contents were not
    read."""
    checked: bool = False
    """Whether every image was read and decoded."""

    @model_serializer(mode="wrap")
    def _without_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Data sets of one class per image are written as they were before there were others."""
        content: dict[str, Any] = handler(self)
        kept = self.target_kind != "class"
        return content if kept else {name: value for name, value in content.items() if name != "target_kind"}

    @property
    def splits(self) -> Mapping[str, SplitInventory]:
        """The splits by their role: `train`, `validation`, `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before training, one line each; files passed over and overlaps are counted."""
        lines = []
        for role, split in self.splits.items():
            if split.passed_over:
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in split.passed_over.items())
                lines.append(f"{role}: {sum(split.passed_over.values()):,} files not read: {reasons}")
            lines += [f"{role}: {count:,} {remark}" for remark, count in split.remarks.items()]
            if split.unreadable:
                left_out = f"{len(split.unreadable):,} images left out as unreadable or by data.skip_files"
                lines.append(f"{role}: {left_out}, for example {split.unreadable[0]}")
            counts = zip(self.class_names, split.per_class, strict=True) if split.per_class else ()
            if missing := [name for name, count in counts if not count]:
                total = len(self.class_names)
                lines.append(f"{role}: no images of {len(missing)} of {total} classes, for example {missing[0]!r}")
        lines += [f"{count:,} images are in both {pair}" for pair, count in self.overlaps.items()]
        return tuple(lines)

    @property
    def summary(self) -> tuple[str, ...]:
        """The data set in a few lines: its classes, and one line per split."""
        names = _some(self.class_names, SHOWN_CLASSES)
        where = f" in {self.root}" if self.root else ""
        kind = {"class": "classes", "labels": "classes, any number for an image", "values": "values"}[self.target_kind]
        lines = [f"data: {self.source}{where}, {len(self.class_names):,} {kind}: {names}"]
        width = max(len(f"{split.images:,}") for split in self.splits.values())
        for role, split in self.splits.items():
            name = "" if split.name == role else f" ({split.name})"
            lines.append(f"  {role:<10} {split.images:>{width},} images{name}, {split.description}")
        return tuple(lines)


def _some(names: Sequence[str], shown: int) -> str:
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
