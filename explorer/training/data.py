"""Images and labels, in an order that depends on the seed and the number of samples seen and on nothing else.

Shapes: B batch, C channels, H height, W width, N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, Protocol

import timm
import torch
from pydantic import Field
from timm.data import resolve_data_config
from torch import Tensor

from explorer.schedule import Frozen
from explorer.training.augmentation import Augmentation
from explorer.training.fractals import FractalSpec
from explorer.training.seeding import seed_for
from explorer.training.workers import ALONE, Workers

Batch = tuple[Tensor, Tensor]
"""Normalised images float32 (B, C, H, W) and labels int64 (B,)."""
Split = Literal["validation", "test"]


class Preprocessing(Frozen):
    """How images read from disk become what the model sees, in training and evaluation alike. None: as timm has it for the
    model (its `pretrained_cfg`)."""

    mean: tuple[float, float, float] | None = None
    """Of red, green and blue, from 0 to 1: subtracted."""
    std: tuple[float, float, float] | None = None
    """Of red, green and blue: divided by."""
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = None
    """Of resizing; for training images `augmentation.transform` may choose another (`random`)."""
    crop_pct: float | None = Field(None, gt=0, le=1)
    """Evaluation: side of the central crop, of the shorter side of the image; 1: nothing of a square image is cut off."""

    def for_model(self, name: str) -> Preprocessing:
        """What is left open, as timm has it for a model; its defaults where it does not know the model."""
        known = timm.get_pretrained_cfg(name, allow_unregistered=True)
        resolved = resolve_data_config(self.model_dump(exclude_none=True) | {"in_chans": 3}, known.to_dict() if known else None)
        return Preprocessing(**{field: resolved[field] for field in Preprocessing.model_fields})


class DataSpec(Frozen):
    """Where the images come from."""

    name: str
    """`digits` (scikit-learn's 1,797 real images) and `fractals` (drawn by formulas) need no download; or a name for
    `timm.data.create_dataset`: `folder` (one folder a class under root/split), `torch/cifar10`, `hfds/...`; or `wds`: tar files
    in the WebDataset format."""
    root: str | None = None
    """Folder of the data set."""
    image_size: int = Field(8, ge=1)
    """Height and width that the model sees, in pixels."""
    train_split: str = "train"
    """Split to train on: for `folder` the subfolder, for `wds` the tar files: how they begin, or `train-{000..146}.tar`."""
    validation_split: str | None = None
    """None: a tenth of the training images is set aside, the same for every seed."""
    test_split: str = "validation"
    """Split whose accuracy is shown and not chosen by."""
    workers: int = Field(0, ge=0)
    """Processes that decode images."""
    preprocessing: Preprocessing = Preprocessing()
    """Images read from disk: size and range of pixels."""
    fractals: FractalSpec = FractalSpec()
    """fractals only: how many, and how hard."""


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
        workers: Workers = ALONE,
    ) -> Iterator[Batch]:
        """This worker's share of batches first_step, first_step + 1, ... of the endless shuffled stream, across epochs."""

    def evaluation_batches(self, split: Split, device: torch.device, workers: Workers = ALONE) -> Iterator[Batch]:
        """All images of a split once, without augmentation, divided among workers."""


@lru_cache(maxsize=4)
def open_data(spec: DataSpec) -> DataSource:
    """Open a data set, all splits of it; kept open for the process.

    Raises:
        InvalidInput: when a split cannot be opened or has no image, or splits do not have the same classes.
    """
    from explorer.training.resident_data import ResidentData
    from explorer.training.streamed_data import StreamedData

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
