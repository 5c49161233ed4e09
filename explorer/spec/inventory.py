"""What a data set contains, as it was found before any training."""

from __future__ import annotations

from collections.abc import Mapping

from explorer.spec.base import Frozen


class SplitInventory(Frozen):
    """The images of one split: training, validation or test."""

    name: str
    """The split as the user names it (`train`, `val`), or what it is taken from (`a tenth of train`)."""
    images: int
    """Images that are trained or evaluated on."""
    per_class: tuple[int, ...]
    """Number of images of each class, in the order of `Inventory.class_names`."""
    modes: dict[str, int] = {}
    """Number of images of each Pillow mode (`RGB`, `L`, `I;16`). Empty if images were not opened."""
    sizes: dict[str, int] = {}
    """Number of images of each size (`500x375`, width first), the most frequent ones first; the others as `other`. Empty if
    images were not opened."""
    opened: int = 0
    """Number of images behind `modes` and `sizes`: all of them after a check, else a sample."""
    passed_over: dict[str, int] = {}
    """Number of files that are not images of the split, by reason (`.txt: not an image format`)."""
    unreadable: tuple[str, ...] = ()
    """Images that cannot be read and are left out, relative to the root of the data set."""
    listing: str = ""
    """Digest of the names, sizes and labels of the images: equal on every machine that sees the same data."""
    content: str = ""
    """Digest of the contents and labels of all images, whatever the names. Empty if contents were not read."""


class Inventory(Frozen):
    """What a data set contains, as it was found before any training."""

    source: str
    """The data set as the user named it: `data.name`."""
    root: str | None = None
    """Folder of the data set as the user named it."""
    class_names: tuple[str, ...]
    """Names of the classes in the order of their labels: the first is label 0."""
    train: SplitInventory
    validation: SplitInventory
    test: SplitInventory
    overlaps: dict[str, int] = {}
    """Number of images with the same content in two splits (`train and test`). Empty if there are none or contents were not
    read."""
    checked: bool = False
    """Whether every image was read and decoded."""

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
                reasons = ", ".join(f"{count} {reason}" for reason, count in split.passed_over.items())
                lines.append(f"{role}: {sum(split.passed_over.values())} files not read: {reasons}")
            if split.unreadable:
                lines.append(f"{role}: {len(split.unreadable)} unreadable images left out, for example {split.unreadable[0]}")
            if missing := [name for name, count in zip(self.class_names, split.per_class, strict=True) if not count]:
                total = len(self.class_names)
                lines.append(f"{role}: no images of {len(missing)} of {total} classes, for example {missing[0]!r}")
        lines += [f"{count} images are in both {pair}" for pair, count in self.overlaps.items()]
        return tuple(lines)
