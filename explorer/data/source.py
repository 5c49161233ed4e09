"""The protocol of data sources. What a source yields depends on the seed and the position in the stream alone.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from explorer.data.stream import BalancedOrder, stream_indices
from explorer.spec.data import TargetKind as TargetKind
from explorer.spec.inventory import Inventory
from explorer.spec.recipe import Augmentation

Batch = tuple[Tensor, Tensor]
"""Normalized images float32 (B, C, H, W) and targets, by their kind (see `TargetKind`), with K classes or values:

- `class`: int64 (B,)
- `labels`: float32 (B, K) of zeros and ones
- `values`: float32 (B, K)
"""
Split = Literal["validation", "test"]

CPU = torch.device("cpu")
NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True, kw_only=True)
class TrainStream:
    """A section of the endless shuffled stream of training images, as one process reads it.

    The stream consists of the epochs of a run, one after another, each a permutation of all training images. Each step trains
    on the `batch_size` images after those of the step before, so that a batch may span two epochs. In a run with a single batch
    size, step `s` begins at position `s * batch_size`.
    """

    seed: int
    """Seed of the run: of the order of images and of their augmentation."""
    first_step: int = 0
    """Step of the first batch, counted from the start of the run."""
    start: int | None = None
    """Position in the stream of the first batch, if earlier steps of the run had other batch sizes; `None` if they had not."""
    steps: int
    """Number of batches."""
    batch_size: int
    """Images in one step, over all processes."""
    augmentation: Augmentation = NO_AUGMENTATION
    """How training images are augmented. Batches are mixed (mixup, cutmix) elsewhere."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels to which images may be cropped at once, because a stage trains on smaller ones; `None` for
    full images. Sources that only have full images yield those; the model then makes them smaller."""
    device: torch.device = CPU
    """Where batches are placed."""
    local_slice: slice = field(default_factory=lambda: slice(None))
    """The part of every batch that this process reads; the whole batch by default."""
    order: BalancedOrder | None = None
    """An order of the images other than permutations. Only sources with `HasLabels` are given one."""

    def indices(self, start: int, count: int, images: int) -> Tensor:
        """Image numbers at positions from `start`, int64 (count,); see `stream_indices`.

        Args:
            start: first position, counted from the start of the run.
            count: number of positions.
            images: number of training images.
        """
        if self.order is None:
            return stream_indices(self.seed, start, count, images)
        return self.order.indices(self.seed, start, count)

    @property
    def local_range(self) -> range:
        """Positions within a batch of the images that this process reads."""
        return range(self.batch_size)[self.local_slice]

    def position(self, step: int, index: int) -> int:
        """Position in the stream of an image.

        Args:
            step: number of the batch in this section, from 0 to `steps - 1`.
            index: position within the batch, as in `local_range`.
        """
        start = self.first_step * self.batch_size if self.start is None else self.start
        return start + step * self.batch_size + index

    def position_of(self, index: int) -> int:
        """Position in the stream of an image by its number among those that this process reads in this section."""
        local = self.local_range
        step, index_in_slice = divmod(index, len(local))
        return self.position(step, local[index_in_slice])


@runtime_checkable
class DataSource(Protocol):
    """A data set as training and evaluation see it.

    `explorer.data.contract` has the tests that every source must pass.
    """

    @property
    def channels(self) -> int:
        """Number of channels of an image."""

    @property
    def classes(self) -> int:
        """Number of classes, with labels 0 to `classes - 1`; of values, where targets are values."""

    @property
    def image_size(self) -> int:
        """Height and width of an image, in pixels."""

    @property
    def train_images(self) -> int:
        """Number of training images: the length of an epoch."""

    @property
    def inventory(self) -> Inventory:
        """What is in each split, as far as it is known without decoding images."""

    @property
    def supported_augmentations(self) -> tuple[str, ...]:
        """The fields of `Augmentation` that the source applies: `shift`, `flip`, `transform`.

        Mixup and cutmix are applied to the batches of any source.
        """

    def train_batches(self, stream: TrainStream) -> Iterator[Batch]:
        """Yield this process's part of each batch of a section of the stream.

        The same seed and position give the same image, whatever was read before and however many processes decode images.
        """

    def evaluation_batches(self, split: Split, device: torch.device, rank: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """Yield the images of a split once and without augmentation, in batches of any size, each time in the same order.

        Args:
            split: which images.
            device: where batches are placed.
            rank: number of this process.
            process_count: number of processes that divide the images among them.
        """


def target_kind(source: DataSource) -> TargetKind:
    """What the images of a source are given: its attribute `target_kind`, or one class each where it has none."""
    kind: TargetKind = getattr(source, "target_kind", "class")
    return kind


@runtime_checkable
class HasLabels(Protocol):
    """A data source whose images can be drawn in another order than permutations: it asks `TrainStream.indices` for them."""

    @property
    def train_labels(self) -> Sequence[int]:
        """The label of each training image."""


@runtime_checkable
class HasSubsets(Protocol):
    """A data source whose training images can be reduced: `data.train_fraction`, and proxies with fewer images."""

    def with_train_fraction(self, fraction: float) -> DataSource:
        """The same data set with a stratified subset of the training images; see `explorer.data.subset.stratified_subset`.

        Raises:
            InvalidInput: naming the first class of which no image would be left.
        """
