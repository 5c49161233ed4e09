"""Images and labels, in an order that depends on the seed and the number of samples seen and on nothing else.

Shapes: B batch, C channels, H height, W width, N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from explorer.data.seeding import seed_for
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.training.distributed import SINGLE_PROCESS, Processes

Batch = tuple[Tensor, Tensor]
"""Normalised images float32 (B, C, H, W) and labels int64 (B,)."""
Split = Literal["validation", "test"]


class DataSource(Protocol):
    """What training needs of a data set."""

    channels: int
    classes: int
    image_size: int
    train_images: int
    augmented_by: tuple[str, ...]
    """Fields of `Augmentation` that change its images, but for those that mix a batch."""

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
        """This process's share of batches first_step, first_step + 1, ... of the endless shuffled stream, across epochs."""

    def evaluation_batches(self, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS) -> Iterator[Batch]:
        """All images of a split once, without augmentation, divided among processes."""


@lru_cache(maxsize=4)
def open_data(spec: DataSpec) -> DataSource:
    """Open a data set, all splits of it; kept open for the process.

    Raises:
        InvalidInput: when a split cannot be opened or has no image, or splits do not have the same classes.
    """
    from explorer.data.resident import ResidentData
    from explorer.data.streamed import StreamedData

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
