"""The images of one split of a data set, and what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explorer.data.image_access import image_name
from explorer.data.targets import Targets, per_class_of, ranges_of, text_of
from explorer.spec.data import TargetKind
from explorer.spec.inventory import SplitInventory


@dataclass(frozen=True, kw_only=True)
class OpenedSplit:
    """The images of one split."""

    name: str
    """The split as the user names it, or what it is taken from."""
    of: str | None
    """Name of the split that `data` was opened for: another one where images are set aside."""
    data: Any
    """An `ImageDataset`. The listing has sizes of files where it has `stamp`, unless its `is_listed_with_sizes` is `False`."""
    numbers: Sequence[int]
    """Which images of `data` belong to the split."""
    labels: Targets
    """Target of each of these images."""
    target_kind: TargetKind = "class"
    """What the targets are."""
    is_whole: bool
    """Whether files that `data` passed over count for this split: it was read for it, not for the split it is taken from."""

    @property
    def image_names(self) -> list[str]:
        """Name of each image of the split; see `image_name`."""
        return [image_name(self.data, number, self.of) for number in self.numbers]

    def inventory(self, classes: int) -> SplitInventory:
        """What is in the split, without opening images."""
        data = self.data if self.is_whole else None
        return SplitInventory(
            name=self.name,
            images=len(self.numbers),
            per_class=per_class_of(self.labels, self.target_kind, classes),
            values=ranges_of(self.labels, self.target_kind),
            passed_over=dict(getattr(data, "passed_over", {})),
            remarks=dict(getattr(data, "remarks", {})),
            unreadable=tuple(getattr(data, "left_out", ())),
            listing=self._listing(),
        )

    def _listing(self) -> str:
        """See `SplitInventory.listing`."""
        # A listing must stay equal between releases: sweeps and model cards are compared by it.
        has_sizes = getattr(self.data, "is_listed_with_sizes", True)
        stamp = getattr(self.data, "stamp", None) if has_sizes else None
        digest = hashlib.sha256()
        for number, name, label in zip(self.numbers, self.image_names, self.labels, strict=True):
            size = stamp(number)[0] if stamp is not None else ""
            digest.update(f"{name}\0{size}\0{text_of(label)}\n".encode())
        return digest.hexdigest()
