"""Images decoded as they are read: whatever `timm.data.create_dataset` opens, and tar files in the WebDataset format.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.data import create_dataset, create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, Split, stream_indices
from explorer.data.tar_shards import TarShards
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.training.distributed import SINGLE_PROCESS, Processes

IN_SEQUENCE = ("tfds", "hfids")
"""Prefixes of timm's data sets that have no random access."""
FOLDERS = ("folder", "torch/folder", "torch/image_folder")
"""Names of data sets that have a subfolder for each split."""


class StreamedData:
    """A data set on disk, decoded as it is read.

    Augmentation is timm's; every sample's random numbers come from (seed, position in the stream), so
    worker count, resume and order of reading change nothing.
    """

    channels = 3
    augmented_by: tuple[str, ...] = ("transform",)

    def __init__(self, spec: DataSpec) -> None:
        self.spec, self.image_size = spec, spec.image_size
        self._pixels = spec.preprocessing.model_dump(exclude_none=True)
        self._evaluation_transform = create_transform(spec.image_size, is_training=False, **self._pixels)
        self._train = self._open(spec.train_split, "data.train_split")
        labels = _labels(self._train)
        self.classes = max(labels) + 1
        self._held_out: list[int] | None = None
        self._kept = list(range(len(labels)))
        if spec.validation_split is None:
            self._kept, self._held_out = _hold_out(labels)
        else:
            self._validation = self._open(spec.validation_split, "data.validation_split", _classes(self._train))
        self._test = self._open(spec.test_split, "data.test_split", _classes(self._train))
        self.train_images = len(self._kept)

    def _open(self, split: str, field: str, train_classes: dict[str, int] | None = None) -> Any:
        """Open a split; its labels are numbered as those of the training images."""
        root, kind = self.spec.root, self.spec.name.split("/")[0].lower()
        if kind in IN_SEQUENCE:
            reason = "is read in sequence, but runs go on and share by image number; use folder, torch/..., hfds/... or wds"
            raise InvalidInput("data.name", self.spec.name, reason)
        if root is not None and kind != "hfds" and not Path(root).is_dir():  # where those are cached
            raise InvalidInput("data.root", root, "there is no such folder")
        if root is None and kind in ("folder", "torch", "wds"):
            raise InvalidInput("data.root", None, f"is needed: the folder of {self.spec.name!r}")
        if kind == "wds":
            return TarShards(str(root), split)

        def opened(class_map: dict[str, int] | None = None) -> Any:
            name = "" if kind == "folder" else self.spec.name
            try:
                return create_dataset(name, root=root, split=split, search_split=True, class_map=class_map)
            except Exception as error:  # each of timm's readers fails in its own way
                raise InvalidInput(field, split, f"cannot be opened as {self.spec.name!r}: {error}") from None

        data = opened()
        if self.spec.name in FOLDERS and getattr(data, "reader", data).root == root:  # timm falls back to all that is there
            raise InvalidInput(field, split, f"there is no such folder in {root}")
        if len(data) == 0:
            raise InvalidInput(field, split, f"has no image under {root}")
        classes = _classes(data)
        if train_classes is None or classes is None or classes == train_classes:
            return data
        if unknown := sorted(set(classes) - set(train_classes)):
            raise InvalidInput(field, split, f"has classes that no training image has: {', '.join(unknown[:3])}")
        if kind != "folder":
            raise InvalidInput(field, split, "must have all classes that the training images have")
        return opened(train_classes)  # it lacks some: numbered by itself, the others would get other numbers

    def train_batches(
        self,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
        processes: Processes = SINGLE_PROCESS,
    ) -> Iterator[Batch]:
        """See `DataSource`."""
        transform = create_transform(self.image_size, is_training=True, **{**self._pixels, **augmentation.transform})
        share = processes.local_slice(batch_size)
        stream = _Stream(self._train, transform, self._kept, seed, first_step, steps, batch_size, share)
        yield from self._loaded(stream, share.stop - share.start, device)

    def evaluation_batches(self, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS) -> Iterator[Batch]:
        """See `DataSource`."""
        if split == "validation" and self._held_out is not None:
            data, images = self._train, self._held_out
        else:
            data = self._test if split == "test" else self._validation
            images = list(range(len(data)))
        mine = images[processes.rank :: processes.count]
        yield from self._loaded(_Images(data, self._evaluation_transform, mine), 128, device)

    def _loaded(self, images: _Images, batch_size: int, device: torch.device) -> Iterator[Batch]:
        # Without a generator of its own, a loader draws from the global random state, which training resumes.
        loader = DataLoader(
            images,
            batch_size,
            num_workers=self.spec.num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
        )
        for images_BCHW, labels_B in loader:
            yield images_BCHW.to(device, non_blocking=True), labels_B.to(device, non_blocking=True)


class _Images(Dataset[tuple[Tensor, int]]):
    """Some images of a data set, transformed."""

    def __init__(self, data: Any, transform: Callable[[Any], Tensor], numbers: Sequence[int]) -> None:
        self.data, self.transform, self.numbers = data, transform, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image, label = self.data[self.numbers[number]]
        return self.transform(image.convert("RGB")), int(label)


class _Stream(_Images):
    """A process's share of some steps of the endless stream, each image transformed under its own random state."""

    def __init__(
        self,
        data: Any,
        transform: Callable[[Any], Tensor],
        numbers: Sequence[int],
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        share: slice,
    ) -> None:
        super().__init__(data, transform, numbers)
        self.seed, self.first_step, self.steps, self.batch_size, self.share = seed, first_step, steps, batch_size, share

    def __len__(self) -> int:
        return self.steps * (self.share.stop - self.share.start)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        step, image = divmod(number, self.share.stop - self.share.start)
        position = (self.first_step + step) * self.batch_size + self.share.start + image
        place = int(stream_indices(self.seed, position, 1, len(self.numbers)))
        with seeded(seed_for("sample", self.seed, position)):
            return super().__getitem__(place)


def _classes(data: Any) -> dict[str, int] | None:
    """Numbers of the classes by name, where timm's reader or torchvision's data set tells them."""
    return getattr(getattr(data, "reader", data), "class_to_idx", None) or None


def _labels(data: Any) -> list[int]:
    """Label of every image, without decoding images where the reader or the data set has a list."""
    reader = getattr(data, "reader", None)
    if samples := getattr(reader, "samples", None):
        return [int(label) for _, label in samples]
    if iterate := getattr(reader, "iter_targets", None):
        return [int(label) for label in iterate()]
    listed = getattr(data, "targets", None)
    return [int(label) for label in listed] if listed is not None else [int(data[i][1]) for i in range(len(data))]


def _hold_out(labels: list[int]) -> tuple[list[int], list[int]]:
    """Positions to train on and a stratified tenth to validate on, the same every time."""
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(range(len(labels)), test_size=0.1, stratify=labels, random_state=0)
    except ValueError as error:
        raise InvalidInput("data.validation_split", None, f"no tenth of the images can be set aside: {error}") from None
    return sorted(kept), sorted(held_out)
