"""Data sets whose images are read and decoded when they are needed.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from explorer.data.array_images import check_augmentation, check_normalization, check_settings
from explorer.data.augmentation import training_transform
from explorer.data.drawing import Drawer, fitted
from explorer.data.drawing import drawer as drawer_of
from explorer.data.holding_out import divide
from explorer.data.image_access import without_images
from explorer.data.labels import GivenSplit, check_no_image_twice, label_values
from explorer.data.loader_processes import ignore_ctrl_c
from explorer.data.opened_split import OpenedSplit
from explorer.data.residence import Residence, SplitImages
from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, Split, TrainStream
from explorer.data.subset import stratified_subset
from explorer.data.targets import check_targets_of, names_of, part_of, read_targets, strata_of
from explorer.data.tensor_batches import Normalization, PackedBatch, TensorBatches
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec, TargetKind
from explorer.spec.inventory import Inventory
from explorer.spec.recipe import Augmentation

if TYPE_CHECKING:
    from rich.console import Console

EVALUATION_BATCH_SIZE = 128
Backend = Literal["pil", "tensor"]

Transform = Callable[[Any], Tensor]


class ImageDataset(Protocol):
    """Random access to the images of a split and their labels, as torchvision's data sets have it.

    A data set may have more, which is used where it is present:

    - `target_kind`: what the targets are, `class` by default; see `explorer.data.TargetKind`.
    - `targets`: target of each image; saves decoding every image when the data set is opened.
    - `classes`: names of the classes in the order of their labels, or of the values.
    - `channels`: number of channels, if the images are tensors or arrays and not 8-bit RGB; see `as_image`.
    - `names`: name of each image, its path relative to the root, for messages and `data.skip_files`.
    - `read(number)`: the encoded content of an image, by which images are compared.
    - `stamp(number)`: size in bytes and time of change of its file, until which the check of an image is remembered.
    - `passed_over`, `remarks`: see `SplitInventory`.
    """

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, number: int, /) -> tuple[Any, Any]:
        """An image and its target: one class as an integer, or a row of numbers."""


class StreamedData:
    """A `DataSource` that decodes images as they are read, augmented by timm's transforms.

    Targets and channels are those of the training images (`target_kind`, `channels`; see `ImageDataset`).

    The random numbers of each image come from the seed and its position in the stream, so that neither the number of loader
    processes nor where training resumes changes what an image looks like.

    Args:
        spec: size and preprocessing of the images, and the number of processes that decode them.
        train: training images.
        test: test images; their labels are numbered as those of the training images. `None` sets a stratified tenth of the
            training images aside, the same for every seed.
        validation: validation images; `None` sets another tenth aside.

    Raises:
        InvalidInput: when a label is missing, hidden or not that of a class with training images, when an image is in two
            splits, when `skip_files` names what is no image, when a class has too few images to set one aside, or when
            settings do not suit images that are tensors.
    """

    supported_augmentations: tuple[str, ...] = ("transform",)

    def __init__(
        self,
        spec: DataSpec,
        train: ImageDataset,
        test: ImageDataset | None,
        validation: ImageDataset | None = None,
    ) -> None:
        self.image_size, self._num_workers = spec.side, spec.num_workers
        channels: int | None = getattr(train, "channels", None)
        self.channels, self.has_tensors = channels or 3, channels is not None
        """Channels of an image, and whether the images are tensors and not 8-bit RGB."""
        if self.has_tensors:
            check_settings(spec)
        check_normalization(spec, self.channels)
        self.target_kind: TargetKind = getattr(train, "target_kind", "class")
        """What each image is given."""
        self.preprocessing = spec.preprocessing
        self._preprocessing = spec.preprocessing.model_dump(exclude_none=True)
        self._evaluation_transform = create_transform(spec.side, is_training=False, **self._preprocessing)
        train = without_images(train, spec.train_split, spec.skip_files, label_values)
        test = without_images(test, spec.test_split, spec.skip_files, label_values)
        validation = without_images(validation, spec.validation_split, spec.skip_files, label_values)
        _check_skipped(spec, (train, test, validation))
        self._spec = spec
        self.backend: Backend = "pil"
        """What evaluates: see `Augmentation.backend`."""
        self.class_names, self.splits = _opened_splits(spec, train, test, validation)
        """Names of the classes, and the images of each split by its role: `train`, `validation`, `test`."""
        self.classes = len(self.class_names)
        self.train_images = len(self.splits["train"].numbers)
        self._residence = Residence(spec, self.splits)
        self._train_subset: Sequence[int] | None = None
        """Places of the training images among those of `_residence`, if they are a subset."""

    def with_backend(self, backend: Backend) -> StreamedData:
        """The same data set for another backend; both share the decoded images."""
        chosen = copy.copy(self)
        chosen.backend = backend
        return chosen

    def with_train_fraction(self, fraction: float) -> StreamedData:
        """See `HasSubsets`. Decoded images are those of the whole data set."""
        chosen, whole = copy.copy(self), self.splits["train"]
        strata, names = strata_of(whole.labels, self.target_kind, self.class_names)
        chosen._train_subset = stratified_subset(strata, fraction, names)
        reduced = replace(
            whole,
            name=f"{fraction:.4g} of {whole.name}",
            numbers=[whole.numbers[place] for place in chosen._train_subset],
            labels=part_of(whole.labels, chosen._train_subset),
        )
        chosen.splits = {**self.splits, "train": reduced}
        chosen.train_images = len(reduced.numbers)
        vars(chosen).pop("inventory", None)  # which is computed once
        return chosen

    def check_augmentation(self, augmentation: Augmentation) -> None:
        """Check that the images can be augmented so: for those that are tensors, by trial.

        Raises:
            InvalidInput: naming the setting that is for RGB images.
        """
        if self.has_tensors:
            check_augmentation(augmentation, self.image_size, self._preprocessing, self.channels)

    def prepare(self, device: torch.device, console: Console | None = None) -> None:
        """Write the file of decoded images where the settings want one, and show progress.

        Raises:
            InvalidInput: when there is too little space or memory, or the file is out of date or of other images.
        """
        self._residence.file(self.backend, device, console)

    @property
    def train_labels(self) -> Sequence[int]:
        """See `HasLabels`: for one class per image."""
        return list(map(int, self.splits["train"].labels))

    @cached_property
    def inventory(self) -> Inventory:
        """What is in each split, without opening images."""
        spec = self._spec
        splits = {role: split.inventory(self.classes) for role, split in self.splits.items()}
        kind = self.target_kind
        return Inventory(source=spec.name, root=spec.root, class_names=self.class_names, target_kind=kind, **splits)

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation of the channels, for pixel values from 0 to 1, by which images are normalized."""
        mean, std = self.preprocessing.mean, self.preprocessing.std
        return mean or IMAGENET_DEFAULT_MEAN, std or IMAGENET_DEFAULT_STD

    def train_batches(self, stream: TrainStream) -> Iterator[Batch]:
        """See `DataSource`."""
        if "tensor" in (self.backend, stream.augmentation.backend):
            files = self._train_files("tensor", stream.device)
            yield from self._tensor_batches(files).training(stream, self._drawer(stream))
            return
        transform = training_transform(self.image_size, {**self._preprocessing, **stream.augmentation.transform})
        images = _StreamImages(self._train_files("pil", stream.device), transform, stream)
        yield from self._load(images, len(stream.local_range), stream.device)

    def evaluation_batches(self, split: Split, device: torch.device, rank: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """See `DataSource`."""
        files = self._residence.split(split, self.backend, device)
        if self.backend == "tensor":
            fit = fitted(self._evaluation_transform.transforms)
            yield from self._tensor_batches(files).evaluation(fit, EVALUATION_BATCH_SIZE, device, rank, process_count)
            return
        images = _Images(files, self._evaluation_transform, rank, process_count)
        yield from self._load(images, EVALUATION_BATCH_SIZE, device)

    def packed_batches(self, stream: TrainStream) -> Iterator[PackedBatch]:
        """What the processes of the data loader hand over to the tensor backend, which a GPU augments."""
        files = self._train_files("tensor", stream.device)
        yield from self._tensor_batches(files).packed(stream, self._drawer(stream))

    def _train_files(self, backend: Backend, device: torch.device) -> SplitImages:
        files = self._residence.split("train", backend, device)
        return files if self._train_subset is None else replace(files, split=self.splits["train"], subset=self._train_subset)

    def _drawer(self, stream: TrainStream) -> Drawer:
        size = stream.image_size or (self.image_size, self.image_size)
        return drawer_of(size, {**self._preprocessing, **stream.augmentation.transform})

    def _tensor_batches(self, images: SplitImages) -> TensorBatches:
        return TensorBatches(images, self.normalization, self._num_workers)

    def _load(self, images: _Images, batch_size: int, device: torch.device) -> Iterator[Batch]:
        # Without a generator of its own, a loader draws from the global random state, which training saves and restores.
        loader = DataLoader(
            images,
            batch_size,
            num_workers=self._num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),
            worker_init_fn=ignore_ctrl_c,
        )
        for images_BCHW, labels_B in loader:
            yield images_BCHW.to(device, non_blocking=True), labels_B.to(device, non_blocking=True)


class _Images(Dataset[tuple[Tensor, Any]]):
    """The images of a split, or every n-th of them, transformed."""

    def __init__(self, images: SplitImages, transform: Transform, first: int = 0, step: int = 1) -> None:
        self.images, self.transform = images, transform
        self.places = range(len(images))[first::step]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, target = self.images.image(self.places[index])
        return self.transform(image), target


class _StreamImages(_Images):
    """One process's images of a section of the stream, each transformed under a random state of its own."""

    def __init__(self, images: SplitImages, transform: Transform, stream: TrainStream) -> None:
        super().__init__(images, transform)
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.steps * len(self.stream.local_range)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        position = self.stream.position_of(index)
        index_in_epoch = int(self.stream.indices(position, 1, len(self.places)))
        with seeded(seed_for("sample", self.stream.seed, position)):
            return super().__getitem__(index_in_epoch)


def _check_skipped(spec: DataSpec, opened: Sequence[ImageDataset | None]) -> None:
    """Check that every entry of `skip_files` is an image that was left out: a name with a mistake would leave none out."""
    left_out = {name for data in opened for name in getattr(data, "left_out", ())}
    if unknown := [name for name in spec.skip_files if name not in left_out]:
        of_all = f"{len(unknown)} of {len(spec.skip_files)} entries are no images of the data set"
        raise InvalidInput("data.skip_files", unknown[0], f"{of_all}: names are relative to the root, such as train/cat/1.png")


def _opened_splits(
    spec: DataSpec, train: ImageDataset, test: ImageDataset | None, validation: ImageDataset | None
) -> tuple[tuple[str, ...], dict[str, OpenedSplit]]:
    """Names of the classes, and the checked splits by their role."""
    given = {"train": GivenSplit(field="data.train_split", split=spec.train_split, data=train)}
    if validation is not None:
        given["validation"] = GivenSplit(field="data.validation_split", split=spec.validation_split, data=validation)
    if test is not None:
        given["test"] = GivenSplit(field="data.test_split", split=spec.test_split, data=test)
    check_no_image_twice(list(given.values()))
    kind: TargetKind = getattr(train, "target_kind", "class")
    targets = {role: read_targets(each, kind) for role, each in given.items()}
    names = names_of(given["train"], targets["train"], kind)
    for role in [each for each in given if each != "train"]:
        check_targets_of(given[role], targets[role], names, targets["train"], kind)
    strata, stratum_names = strata_of(targets["train"], kind, names)
    division = divide(strata, stratum_names, validation=validation is None, test=test is None)
    splits = {}
    for role, set_aside in (("train", division.train), ("validation", division.validation), ("test", division.test)):
        own = given.get(role)
        data = own.data if own else train
        numbers = list(range(len(data))) if own and role != "train" else set_aside
        name = str(own.split) if own else f"a tenth of {spec.train_split}"
        splits[role] = OpenedSplit(
            name=name,
            of=str(own.split) if own else spec.train_split,
            data=data,
            numbers=array("q", numbers),
            labels=part_of(targets[role if own else "train"], numbers),
            target_kind=kind,
            is_whole=own is not None,
        )
    return names, splits
