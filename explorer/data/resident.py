"""Small data sets held as tensors: digits and fractals.

Shapes: B batch, C channels, H height, W width, N images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from explorer.data.augmentation import shift_and_flip
from explorer.data.fractals import fractal_images
from explorer.data.seeding import seed_for
from explorer.data.source import Batch, Split, stream_indices
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.training.distributed import SINGLE_PROCESS, Processes


class ResidentData:
    """A small data set held as tensors, on the GPU where there is one; uint8 images are normalised batch by batch."""

    augmented_by: tuple[str, ...] = ("shift", "flip")

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
        """Images of iterated function systems; see `explorer.data.fractals`. They depend on the settings alone."""
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
        processes: Processes = SINGLE_PROCESS,
    ) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCHW, labels_N = self._on("train", device)
        for step in range(first_step, first_step + steps):
            share = processes.local_slice(batch_size)
            index_B = stream_indices(seed, step * batch_size, batch_size, self.train_images)[share].to(device)
            images_BCHW = _normalised(images_NCHW[index_B])
            if augmentation.shift or augmentation.flip:
                generator = torch.Generator().manual_seed(seed_for("augment", seed, step * batch_size + share.start))
                images_BCHW = shift_and_flip(images_BCHW, augmentation, generator)
            yield images_BCHW, labels_N[index_B]

    def evaluation_batches(self, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS) -> Iterator[Batch]:
        """See `DataSource`."""
        images_NCHW, labels_N = self._on(split, device)
        mine = slice(processes.rank, None, processes.count)
        for images_BCHW, labels_B in zip(images_NCHW[mine].split(512), labels_N[mine].split(512), strict=True):
            yield _normalised(images_BCHW), labels_B


def _normalised(images: Tensor) -> Tensor:
    """Stored brightness, 0 to 255, as -1 to 1; images of floats are normalised already."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images
