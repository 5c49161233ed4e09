"""Images and labels, in an order that depends on the seed and the number of samples seen and on nothing else.

Shapes: B batch, C channels, H height, W width, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from explorer.errors import InvalidInput
from explorer.schedule import Frozen
from explorer.training.augmentation import Augmentation, shift_and_flip
from explorer.training.fractals import FractalSpec, fractal_images
from explorer.training.seeding import seed_for, seeded
from explorer.training.workers import ALONE, Workers

Batch = tuple[Tensor, Tensor]
"""Normalised images float32 (B, C, H, W) and labels int64 (B,)."""
Split = Literal["validation", "test"]
IN_SEQUENCE = ("wds", "tfds", "hfids")
"""Prefixes of timm's data sets that have no random access."""


class DataSpec(Frozen):
    """Where the images come from."""

    name: str
    """`digits` (scikit-learn's 1,797 real images) and `fractals` (drawn by formulas) need no download; or a name for
    `timm.data.create_dataset`: `folder`, `torch/cifar10`, `hfds/...`; `folder` wants one folder a class under root/split."""
    root: str | None = None
    """Folder of the data set."""
    image_size: int = Field(8, ge=1)
    """Height and width that the model sees, in pixels."""
    train_split: str = "train"
    """Split to train on: for `folder`, the subfolder."""
    validation_split: str | None = None
    """None: a tenth of the training images is set aside, the same for every seed."""
    test_split: str = "validation"
    """Split whose accuracy is shown and not chosen by."""
    workers: int = Field(0, ge=0)
    """Processes that decode images."""
    fractals: FractalSpec = FractalSpec()
    """fractals only: how many, and how hard."""


class DataSource(Protocol):
    """What training needs of a data set."""

    channels: int
    classes: int
    image_size: int
    train_images: int

    def train_batches(
        self,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
        workers: Workers = ALONE,
    ) -> Iterator[Batch]:
        """This worker's share of batches first_step, first_step + 1, ... of the endless shuffled stream, across epochs."""

    def evaluation_batches(self, split: Split, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """All images of a split once, unchanged, divided among workers."""


@lru_cache(maxsize=4)
def open_data(spec: DataSpec) -> DataSource:
    """Open a data set; kept open for the process.

    Raises:
        InvalidInput: when it cannot be opened or has no image.
    """
    if spec.name == "digits":
        return ResidentData.digits(spec.image_size)
    return ResidentData.fractals(spec) if spec.name == "fractals" else StreamedData(spec)


def stream_indices(seed: int, first: int, count: int, images: int) -> Tensor:
    """Image numbers at positions first .. first + count of the endless stream: one permutation an epoch.

    Returns:
        int64 (count,)
    """
    parts = []
    while count > 0:
        epoch, start = divmod(first, images)
        taken = min(count, images - start)
        parts.append(_permutation(seed, epoch, images)[start : start + taken])
        first, count = first + taken, count - taken
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, images: int) -> Tensor:
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_for("order", seed, epoch)))


class ResidentData:
    """A small data set held as tensors, on the GPU where there is one; uint8 images are normalised batch by batch."""

    def __init__(self, images_NCHW: dict[str, Tensor], labels_N: dict[str, Tensor], classes: int) -> None:
        self._images, self._labels, self.classes = images_NCHW, labels_N, classes
        self.train_images, self.channels, self.image_size = images_NCHW["train"].shape[:3]
        self._moved: dict[tuple[str, torch.device], Batch] = {}

    @classmethod
    def digits(cls, image_size: int = 8) -> ResidentData:
        """scikit-learn's handwritten digits: 1,149 training, 288 validation and 360 test images of 8x8 pixels.

        The split is stratified and fixed; it does not depend on the training seed.
        """
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        fit, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
        train, validation = train_test_split(fit, test_size=288, stratify=labels[fit], random_state=0)
        pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
        if image_size != 8:
            pixels = functional.interpolate(pixels, size=image_size, mode="bilinear", antialias=True)
        splits = {"train": train, "validation": validation, "test": test}
        return cls(
            {name: pixels[index] for name, index in splits.items()},
            {name: torch.tensor(labels[index]) for name, index in splits.items()},
            classes=10,
        )

    @classmethod
    def fractals(cls, spec: DataSpec) -> ResidentData:
        """Images of iterated function systems; see `explorer.training.fractals`. They depend on the settings alone."""
        images, labels = fractal_images(spec.fractals, spec.image_size)
        return cls(
            {split: torch.from_numpy(array) for split, array in images.items()},
            {split: torch.from_numpy(array) for split, array in labels.items()},
            classes=spec.fractals.classes,
        )

    def _on(self, split: str, device: torch.device) -> Batch:
        key = (split, device)
        if key not in self._moved:
            self._moved[key] = self._images[split].to(device), self._labels[split].to(device)
        return self._moved[key]

    def train_batches(
        self,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
        workers: Workers = ALONE,
    ) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCHW, labels_N = self._on("train", device)
        for step in range(first_step, first_step + steps):
            share = workers.share(batch_size)
            index_B = stream_indices(seed, step * batch_size, batch_size, self.train_images)[share].to(device)
            images_BCHW = _normalised(images_NCHW[index_B])
            if augmentation.shift or augmentation.flip:
                generator = torch.Generator().manual_seed(seed_for("augment", seed, step * batch_size + share.start))
                images_BCHW = shift_and_flip(images_BCHW, augmentation, generator)
            yield images_BCHW, labels_N[index_B]

    def evaluation_batches(self, split: Split, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCHW, labels_N = self._on(split, device)
        mine = slice(workers.rank, None, workers.count)
        for images_BCHW, labels_B in zip(images_NCHW[mine].split(512), labels_N[mine].split(512), strict=True):
            yield _normalised(images_BCHW), labels_B


def _normalised(images: Tensor) -> Tensor:
    """Stored brightness, 0 to 255, as -1 to 1; images of floats are normalised already."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


class StreamedData:
    """A data set that `timm.data.create_dataset` opens, decoded as it is read.

    Augmentation is timm's; every sample's random numbers come from (seed, position in the stream), so
    worker count, resume and order of reading change nothing.
    """

    channels = 3

    def __init__(self, spec: DataSpec) -> None:
        from timm.data import create_transform

        self.spec, self.image_size = spec, spec.image_size
        self._evaluation_transform = create_transform(spec.image_size, is_training=False)
        train = self._open(spec.train_split, "data.train_split")
        self.classes = len({label for _, label in _listed(train)})
        if spec.validation_split is None:
            kept, held_out = _hold_out([label for _, label in _listed(train)])
        else:
            kept, held_out = list(range(len(train))), None
        self._train, self._kept, self._held_out = train, kept, held_out
        self.train_images = len(kept)

    def _open(self, split: str, field: str) -> Any:
        from timm.data import create_dataset

        root, kind = self.spec.root, self.spec.name.split("/")[0]
        if kind in IN_SEQUENCE:
            reason = "is read in sequence, but runs go on and share by image number; use folder, torch/... or hfds/..."
            raise InvalidInput("data.name", self.spec.name, reason)
        if root is not None and not Path(root).is_dir():
            raise InvalidInput("data.root", root, "there is no such folder")
        try:
            name = "" if self.spec.name == "folder" else self.spec.name
            data = create_dataset(name, root=root, split=split, search_split=True)
            size = len(data)
        except Exception as error:  # each of timm's readers fails in its own way
            raise InvalidInput(field, split, f"cannot be opened as {self.spec.name!r}: {error}") from None
        if size == 0:
            raise InvalidInput(field, split, f"has no image under {root}")
        return data

    def train_batches(
        self,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
        workers: Workers = ALONE,
    ) -> Iterator[Batch]:
        """See `DataSource`."""
        from timm.data import create_transform

        transform = create_transform(self.image_size, is_training=True, **augmentation.transform)
        share = workers.share(batch_size)
        stream = _Stream(self._train, transform, self._kept, seed, first_step, steps, batch_size, share)
        yield from self._loaded(stream, share.stop - share.start, device)

    def evaluation_batches(self, split: Split, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """See `DataSource`."""
        if split == "validation" and self._held_out is not None:
            data, images = self._train, self._held_out
        else:
            name = self.spec.test_split if split == "test" else str(self.spec.validation_split)
            data = self._open(name, f"data.{split}_split")
            images = list(range(len(data)))
        mine = images[workers.rank :: workers.count]
        yield from self._loaded(_Images(data, self._evaluation_transform, mine), 128, device)

    def _loaded(self, images: _Images, batch_size: int, device: torch.device) -> Iterator[Batch]:
        # Without a generator of its own, a loader draws from the global random state, which training resumes.
        loader = DataLoader(
            images,
            batch_size,
            num_workers=self.spec.workers,
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
    """A worker's share of some steps of the endless stream, each image transformed under its own random state."""

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


def _listed(data: Any) -> list[tuple[Any, int]]:
    """(anything, label) of every sample, without decoding images where the reader has a list."""
    reader = getattr(data, "reader", None)
    samples = getattr(reader, "samples", None)
    if samples is not None:
        return list(samples)
    return [(None, int(data[i][1])) for i in range(len(data))]


def _hold_out(labels: list[int]) -> tuple[list[int], list[int]]:
    """Positions to train on and a stratified tenth to validate on, the same every time."""
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(range(len(labels)), test_size=0.1, stratify=labels, random_state=0)
    except ValueError as error:
        raise InvalidInput("data.validation_split", None, f"no tenth of the images can be set aside: {error}") from None
    return sorted(kept), sorted(held_out)
