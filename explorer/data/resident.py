"""Small data sets held in memory as tensors.

Shapes: B batch, C channels, S side of an image in pixels, N images of a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from explorer.data.augmentation import shift_and_flip
from explorer.data.labels import some
from explorer.data.overlaps import overlaps_of
from explorer.data.seeding import seed_for
from explorer.data.source import Batch, Split, TargetKind, TrainStream
from explorer.data.subset import stratified_subset
from explorer.data.targets import Targets, per_class_of, ranges_of, strata_of
from explorer.errors import InvalidInput
from explorer.spec.inventory import Inventory, SplitInventory

SPLITS = ("train", "validation", "test")
EVALUATION_BATCH_SIZE = 512


class ResidentData:
    """A `DataSource` whose images are tensors, copied once to the device that trains on them.

    Args:
        images_NCSS: images of the splits `train`, `validation` and `test`: brightness uint8 (N, C, S, S), which is normalized
            to [-1, 1] batch by batch, or normalized float32 (N, C, S, S).
        labels_N: targets of the same splits: labels int64 (N,) from 0 to `classes - 1`, or rows of numbers float32
            (N, `classes`).
        classes: number of classes, or of values.
        class_names: names of the classes in the order of their labels, or of the values; `None` names them by their numbers.
        target_kind: what the targets are.

    Raises:
        InvalidInput: when a split is missing or empty, images and labels do not fit together, or a held-out split has classes
            that no training image has.
    """

    supported_augmentations: tuple[str, ...] = ("shift", "flip")

    def __init__(
        self,
        images_NCSS: Mapping[str, Tensor],
        labels_N: Mapping[str, Tensor],
        classes: int,
        class_names: Sequence[str] | None = None,
        target_kind: TargetKind = "class",
    ) -> None:
        if class_names is not None and len(class_names) != classes:
            raise InvalidInput("class_names", list(class_names), f"must be the names of the {classes} classes")
        self.class_names = tuple(class_names or map(str, range(classes)))
        self.target_kind: TargetKind = target_kind
        """What each image is given."""
        _check(images_NCSS, labels_N, self.class_names, target_kind)
        self.images, self.labels, self.classes = dict(images_NCSS), dict(labels_N), classes
        self.train_images, self.channels, self.image_size = self.images["train"].shape[:3]
        self._copies: dict[tuple[str, torch.device], Batch] = {}

    def with_train_fraction(self, fraction: float) -> ResidentData:
        """See `HasSubsets`."""
        strata, names = strata_of(self._targets("train"), self.target_kind, self.class_names)
        chosen_N = torch.tensor(stratified_subset(strata, fraction, names))
        images = {**self.images, "train": self.images["train"][chosen_N]}
        labels = {**self.labels, "train": self.labels["train"][chosen_N]}
        return ResidentData(images, labels, self.classes, self.class_names, self.target_kind)

    def _targets(self, split: str) -> Targets:
        """The targets of a split as `explorer.data.targets` takes them."""
        labels = self.labels[split].cpu()
        return labels.tolist() if self.target_kind == "class" else labels.float().numpy()

    @property
    def train_labels(self) -> Sequence[int]:
        """See `HasLabels`."""
        labels: list[int] = self.labels["train"].tolist()
        return labels

    @cached_property
    def inventory(self) -> Inventory:
        """What is in each split; contents are those of the tensors."""
        splits = {split: self._split_inventory(split) for split in SPLITS}
        contents = {split: [image.tobytes() for image in self.images[split].cpu().numpy()] for split in SPLITS}
        overlaps = overlaps_of(contents)
        return Inventory(
            source="tensors",
            class_names=self.class_names,
            target_kind=self.target_kind,
            checked=True,
            overlaps=overlaps,
            **splits,
        )

    def _split_inventory(self, split: str) -> SplitInventory:
        images, labels = self.images[split].cpu().contiguous(), self.labels[split].cpu().contiguous()
        digest = hashlib.sha256(images.numpy().tobytes())
        digest.update(labels.numpy().tobytes())
        targets, content = self._targets(split), digest.hexdigest()
        per_class = per_class_of(targets, self.target_kind, self.classes)
        values = ranges_of(targets, self.target_kind)
        return SplitInventory(
            name=split, images=len(labels), per_class=per_class, values=values, listing=content, content=content
        )

    def train_batches(self, stream: TrainStream) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCSS, labels_N = self._split_on("train", stream.device)
        augmentation = stream.augmentation
        for step in range(stream.steps):
            start = stream.position(step, 0)
            index_B = stream.indices(start, stream.batch_size, self.train_images)
            index_B = index_B[stream.local_slice].to(stream.device)
            images_BCSS = _normalized(images_NCSS[index_B])
            if augmentation.shift or augmentation.flip:
                generator = torch.Generator().manual_seed(seed_for("augment", stream.seed, start))
                images_BCSS = shift_and_flip(images_BCSS, augmentation, generator, stream.batch_size, stream.local_slice)
            yield images_BCSS, labels_N[index_B]

    def evaluation_batches(self, split: Split, device: torch.device, rank: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCSS, labels_N = self._split_on(split, device)
        local = slice(rank, None, process_count)
        parts = (tensor[local].split(EVALUATION_BATCH_SIZE) for tensor in (images_NCSS, labels_N))
        for images_BCSS, labels_B in zip(*parts, strict=True):
            yield _normalized(images_BCSS), labels_B

    def _split_on(self, split: str, device: torch.device) -> Batch:
        """All images and labels of a split on a device."""
        key = (split, device)
        if key not in self._copies:
            self._copies[key] = self.images[split].to(device), self.labels[split].to(device)
        return self._copies[key]


def _normalized(images: Tensor) -> Tensor:
    """Brightness from 0 to 255 as numbers from -1 to 1; floats are normalized already."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images


def _check(images_NCSS: Mapping[str, Tensor], labels_N: Mapping[str, Tensor], names: Sequence[str], kind: TargetKind) -> None:
    classes = len(names)
    for split in SPLITS:
        if split not in images_NCSS or split not in labels_N or not len(images_NCSS[split]):
            raise InvalidInput(f"data: {split}", None, "this split has no images")
        images, labels = images_NCSS[split], labels_N[split]
        if images.ndim != 4 or images.shape[2] != images.shape[3] or images.shape[1:] != images_NCSS["train"].shape[1:]:
            raise InvalidInput(f"data: {split}", tuple(images.shape), "images must be square and of one size: (N, C, S, S)")
        if kind != "class":
            _check_rows(split, labels, len(images), classes, kind)
            continue
        if labels.is_floating_point():
            raise InvalidInput(f"data: {split}", labels.dtype, "labels must be integers: int64 (N,)")
        if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= classes:
            allowed = f"each of the {len(images)} images must have a label from 0 to {classes - 1}"
            raise InvalidInput(f"data: {split}", f"labels {tuple(labels.shape)}", allowed)
        if unknown := sorted(set(labels.unique().tolist()) - set(labels_N["train"].unique().tolist())):
            raise InvalidInput(
                f"data: {split}", None, f"has classes that no training image has: {some([names[n] for n in unknown])}"
            )


def _check_rows(split: str, labels_NK: Tensor, images: int, count: int, kind: TargetKind) -> None:
    """Check targets that are rows of numbers, float32 (N, K)."""
    field, given = f"data: {split}", f"targets {tuple(labels_NK.shape)} {labels_NK.dtype}"
    if labels_NK.shape != (images, count) or labels_NK.dtype != torch.float32:
        raise InvalidInput(field, given, f"must be float32 ({images}, {count}), a row of numbers for each image")
    if not labels_NK.isfinite().all():
        raise InvalidInput(field, given, "must be finite")
    if kind == "labels" and not ((labels_NK == 0) | (labels_NK == 1)).all():
        raise InvalidInput(field, given, "must be 0 or 1 for each class")
