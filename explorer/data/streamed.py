"""Data sets whose images are read and decoded when they are needed.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from explorer.data.augmentation import training_transform
from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, Split, TrainStream
from explorer.data.stream import stream_indices
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec
from explorer.spec.inventory import Inventory, SplitInventory

EVALUATION_BATCH_SIZE = 128
VALIDATION_FRACTION = 0.1
"""Fraction of the training images that is set aside where there is no validation split."""

Transform = Callable[[Any], Tensor]


class ImageDataset(Protocol):
    """Random access to the images of a split and their labels, as torchvision's data sets have it.

    A list of all labels as `targets` saves decoding every image when the data set is opened.
    """

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, number: int, /) -> tuple[Image.Image, int]:
        """An image and its label."""


class StreamedData:
    """A `DataSource` that decodes images as they are read, augmented by timm's transforms.

    The random numbers of each image come from the seed and its position in the stream, so that neither the number of loader
    processes nor where training resumes changes what an image looks like.

    Args:
        spec: size and preprocessing of the images, and the number of processes that decode them.
        train: training images.
        test: test images; their labels are numbered as those of the training images.
        validation: validation images; `None` sets a stratified tenth of the training images aside, the same for every seed.

    Raises:
        InvalidInput: when no tenth of the training images can be set aside.
    """

    channels = 3
    supported_augmentations: tuple[str, ...] = ("transform",)

    def __init__(self, spec: DataSpec, train: ImageDataset, test: ImageDataset, validation: ImageDataset | None = None) -> None:
        self.image_size, self._num_workers = spec.side, spec.num_workers
        self._preprocessing = spec.preprocessing.model_dump(exclude_none=True)
        self._evaluation_transform = create_transform(spec.side, is_training=False, **self._preprocessing)
        labels = _labels(train)
        self.classes = max(labels) + 1
        self._train, self._train_numbers = train, list(range(len(labels)))
        if validation is None:
            self._train_numbers, held_out = _hold_out(labels)
            self._validation, self._validation_numbers = train, held_out
        else:
            self._validation, self._validation_numbers = validation, list(range(len(validation)))
        self._test = test
        self.train_images = len(self._train_numbers)
        self._spec, self._train_labels = spec, labels

    @property
    def inventory(self) -> Inventory:
        """What is in each split, without opening images."""
        spec, labels = self._spec, self._train_labels
        held_out = _labels(self._validation) if self._validation is not self._train else labels
        return Inventory(
            source=spec.name,
            root=spec.root,
            class_names=tuple(str(label) for label in range(self.classes)),
            train=self._split_inventory(spec.train_split, [labels[number] for number in self._train_numbers]),
            validation=self._split_inventory(
                spec.validation_split or f"a tenth of {spec.train_split}", [held_out[n] for n in self._validation_numbers]
            ),
            test=self._split_inventory(spec.test_split, _labels(self._test)),
        )

    def _split_inventory(self, name: str, labels: Sequence[int]) -> SplitInventory:
        per_class = torch.bincount(torch.tensor(labels), minlength=self.classes).tolist()
        return SplitInventory(name=name, images=len(labels), per_class=tuple(per_class))

    def train_batches(self, stream: TrainStream) -> Iterator[Batch]:
        """See `DataSource`."""
        arguments = {**self._preprocessing, **stream.augmentation.transform}
        transform = training_transform(self.image_size, arguments)
        images = _StreamImages(self._train, transform, self._train_numbers, stream)
        yield from self._load(images, len(stream.local_range), stream.device)

    def evaluation_batches(self, split: Split, device: torch.device, rank: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """See `DataSource`."""
        data, numbers = self._validation, self._validation_numbers
        if split == "test":
            data, numbers = self._test, list(range(len(self._test)))
        images = _Images(data, self._evaluation_transform, numbers[rank::process_count])
        yield from self._load(images, EVALUATION_BATCH_SIZE, device)

    def _load(self, images: _Images, batch_size: int, device: torch.device) -> Iterator[Batch]:
        # Without a generator of its own, a loader draws from the global random state, which training saves and restores.
        loader = DataLoader(
            images,
            batch_size,
            num_workers=self._num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
        )
        for images_BCHW, labels_B in loader:
            yield images_BCHW.to(device, non_blocking=True), labels_B.to(device, non_blocking=True)


class _Images(Dataset[tuple[Tensor, int]]):
    """Some images of a data set, transformed."""

    def __init__(self, data: ImageDataset, transform: Transform, numbers: Sequence[int]) -> None:
        self.data, self.transform, self.numbers = data, transform, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.data[self.numbers[index]]
        return self.transform(image.convert("RGB")), int(label)


class _StreamImages(_Images):
    """One process's images of a section of the stream, each transformed under a random state of its own."""

    def __init__(self, data: ImageDataset, transform: Transform, numbers: Sequence[int], stream: TrainStream) -> None:
        super().__init__(data, transform, numbers)
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.steps * len(self.stream.local_range)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        local = self.stream.local_range
        step, index_in_slice = divmod(index, len(local))
        position = self.stream.position(step, local[index_in_slice])
        index_in_epoch = int(stream_indices(self.stream.seed, position, 1, len(self.numbers)))
        with seeded(seed_for("sample", self.stream.seed, position)):
            return super().__getitem__(index_in_epoch)


def _labels(data: Any) -> list[int]:
    """Label of every image; images are decoded only where the data set has no list of labels."""
    reader = getattr(data, "reader", None)  # of timm's data sets
    if samples := getattr(reader, "samples", None):
        return [int(label) for _, label in samples]
    if iterate := getattr(reader, "iter_targets", None):
        return [int(label) for label in iterate()]
    targets = getattr(data, "targets", None)
    return [int(label) for label in targets] if targets is not None else [int(data[i][1]) for i in range(len(data))]


def _hold_out(labels: list[int]) -> tuple[list[int], list[int]]:
    """Numbers of the images to train on, and of a stratified tenth to validate on; the same every time."""
    from sklearn.model_selection import train_test_split  # not needed by data sources that are split already

    try:
        kept, held_out = train_test_split(range(len(labels)), test_size=VALIDATION_FRACTION, stratify=labels, random_state=0)
    except ValueError as error:
        raise InvalidInput("data.validation_split", None, f"no tenth of the images can be set aside: {error}") from None
    return sorted(kept), sorted(held_out)
