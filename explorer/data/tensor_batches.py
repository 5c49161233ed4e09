"""The tensor backend: images are cropped where they are read, and resized, augmented and normalized in batches on the device.

Processes of the data loader read pixels, draw random numbers and copy the crops into one tensor; they transform nothing.

Shapes: B batch, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms.v2 import functional

from explorer.data.drawing import Drawer, Drawn, Fit, fitted
from explorer.data.loader_processes import ignore_ctrl_c
from explorer.data.residence import SplitImages
from explorer.data.seeding import preserved_generators, seed_for, seed_generators
from explorer.data.source import Batch, TrainStream
from explorer.data.tensor_operations import apply_operations

CHUNK = 4
"""Images that are augmented together on a CPU."""
Box = tuple[int, int, int, int]
"""Top, left, height and width."""
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Sample:
    """One image as a process of the data loader hands it over."""

    index: int
    """Its number in the split."""
    label: Any
    """Its target: the number of its class, or float32 (K,)."""
    crop: Any
    """Pixels, (H, W, 3); `None` if they are on the device."""
    drawn: Drawn | None
    """What is done to it; `None` if that is the same for all images."""


@dataclass(frozen=True)
class PackedBatch:
    """Images of different sizes in one tensor, which is copied to the device at once."""

    pixels: Tensor
    """uint8: the crops (H, W, 3), one after another."""
    sizes: list[tuple[int, int]]
    """Height and width of each; empty if the pixels are on the device."""
    indices: list[int]
    labels: Tensor
    drawn: list[Drawn | None]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> PackedBatch:
        """Pack samples."""
        crops = [sample.crop for sample in samples if sample.crop is not None]
        packed = np.empty(sum(crop.size for crop in crops), np.uint8)
        end = 0
        for crop in crops:
            start, end = end, end + crop.size
            packed[start:end].reshape(crop.shape)[:] = crop
        return cls(
            pixels=torch.from_numpy(packed),
            sizes=[crop.shape[:2] for crop in crops],
            indices=[sample.index for sample in samples],
            labels=default_collate([sample.label for sample in samples]),
            drawn=[sample.drawn for sample in samples],
        )

    def pin_memory(self) -> PackedBatch:
        """Called by the data loader for training on a GPU."""
        return PackedBatch(self.pixels.pin_memory(), self.sizes, self.indices, self.labels.pin_memory(), self.drawn)


class TensorBatches:
    """Batches of one split.

    Args:
        images: the split.
        normalization: mean and standard deviation of the channels, for values from 0 to 1.
        num_workers: processes that read images.
    """

    def __init__(self, images: SplitImages, normalization: Normalization, num_workers: int) -> None:
        self._images, self._normalization, self._num_workers = images, normalization, num_workers

    def training(self, stream: TrainStream, drawer: Drawer) -> Iterator[Batch]:
        """The augmented batches of a section of the stream, at the drawer's size."""
        fit = fitted(drawer.parts) if not drawer.is_random else None
        for batch in self.packed(stream, drawer):
            images = self._on_device(batch, stream.device)
            if fit is not None:
                yield self._normalized([fit(image) for image in images], stream.device), batch.labels.to(stream.device)
                continue
            drawn = [each for each in batch.drawn if each is not None]
            images_B3HW = torch.empty(len(drawn), 3, *drawer.size, device=stream.device)
            # On a CPU, a few images at a time, which stay in its cache; on a GPU all of them.
            chunk = CHUNK if stream.device.type == "cpu" else len(drawn)
            for start in range(0, len(drawn), chunk):
                part = slice(start, start + chunk)
                self._normalize(augmented(images[part], drawn[part], drawer), images_B3HW[part])
            erase(images_B3HW, drawn)
            yield images_B3HW, batch.labels.to(stream.device, non_blocking=True)

    def packed(self, stream: TrainStream, drawer: Drawer) -> Iterator[PackedBatch]:
        """What the processes of the data loader hand over for a section of the stream: their whole share of the work."""
        has_pixels = self._images.on_device is None
        samples = _TrainingSamples(self._images.on_host(), stream, drawer, has_pixels)
        yield from self._load(samples, len(stream.local_range), stream.device)

    def evaluation(self, fit: Fit, batch_size: int, device: torch.device, rank: int, process_count: int) -> Iterator[Batch]:
        """Every image once, or every n-th, resized and cropped by `fit`."""
        samples = _Samples(self._images.on_host(), rank, process_count, has_pixels=self._images.on_device is None)
        for batch in self._load(samples, batch_size, device):
            images = [fit(image) for image in self._on_device(batch, device)]
            yield self._normalized(images, device), batch.labels.to(device, non_blocking=True)

    def _load(self, samples: Dataset[Sample], batch_size: int, device: torch.device) -> DataLoader[Any]:
        return DataLoader(
            samples,
            batch_size,
            num_workers=self._num_workers,
            pin_memory=device.type == "cuda",
            collate_fn=PackedBatch.of,
            generator=torch.Generator(),  # without one, a loader draws from the global random state
            worker_init_fn=ignore_ctrl_c,
        )

    def _on_device(self, batch: PackedBatch, device: torch.device) -> list[Tensor]:
        """The images of a batch on the device, each uint8 (3, H, W), cropped if they are augmented."""
        if self._images.on_device is not None and self._images.file is not None:
            views = []
            for index, drawn in zip(batch.indices, batch.drawn, strict=True):
                start, end, height, width = self._images.file.place(self._images.number_in_file(index))
                whole_HW3 = self._images.on_device[start:end].view(height, width, 3)
                views.append((whole_HW3 if drawn is None else _cropped(whole_HW3, drawn.crop)).permute(2, 0, 1))
            return views
        pixels = batch.pixels.to(device, non_blocking=True)
        parts = pixels.split([3 * height * width for height, width in batch.sizes])
        return [part.view(*size, 3).permute(2, 0, 1) for part, size in zip(parts, batch.sizes, strict=True)]

    def _normalized(self, images: Sequence[Tensor], device: torch.device) -> Tensor:
        """Images uint8 (3, H, W) of one size as normalized float32 (B, 3, H, W)."""
        normalized = torch.empty(len(images), *images[0].shape, device=device)
        for image, result in zip(images, normalized, strict=True):
            self._normalize(image, result)
        return normalized

    def _normalize(self, images: Tensor, result: Tensor) -> None:
        """Write brightness from 0 to 255 as normalized float32."""
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in self._normalization)
        torch.mul(images, 1 / (255 * std), out=result).sub_(mean / std)


class _Samples(Dataset[Sample]):
    """The images of a split, or every n-th of them."""

    def __init__(self, images: SplitImages, first: int = 0, step: int = 1, *, has_pixels: bool) -> None:
        self.images, self.has_pixels = images, has_pixels
        self.places = range(len(images))[first::step]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Sample:
        index = self.places[number]
        return Sample(index, self.images.split.labels[index], self.images.pixels(index) if self.has_pixels else None, None)


class _TrainingSamples(_Samples):
    """One process's images of a section of the stream, with random numbers from the seed and the position of each alone."""

    def __init__(self, images: SplitImages, stream: TrainStream, drawer: Drawer, has_pixels: bool) -> None:
        super().__init__(images, has_pixels=has_pixels)
        self.stream, self.drawer = stream, drawer

    def __len__(self) -> int:
        return self.stream.steps * len(self.stream.local_range)

    def __getitems__(self, numbers: list[int]) -> list[Sample]:
        """The data loader asks for a whole batch at a time: the global random state is saved once for all of it."""
        with preserved_generators():
            return [self._sample(self.stream.position_of(number)) for number in numbers]

    def _sample(self, position: int) -> Sample:
        seed = self.stream.seed
        index = int(self.stream.indices(position, 1, len(self.images)))
        sample = super().__getitem__(index)
        if not self.drawer.is_random:
            return sample
        if sample.crop is not None:
            height, width, _ = sample.crop.shape
        else:
            assert self.images.file is not None
            _, _, height, width = self.images.file.place(self.images.number_in_file(index))
        seed_generators(seed_for("sample", seed, position))
        drawn = self.drawer.draw(height, width)
        crop = None if sample.crop is None else _cropped(sample.crop, drawn.crop)
        return Sample(index, sample.label, crop, drawn)


def _cropped(image_HW3: Any, box: Box) -> Any:
    top, left, height, width = box
    return image_HW3[top : top + height, left : left + width]


def augmented(crops: Sequence[Tensor], drawn: Sequence[Drawn], drawer: Drawer) -> Tensor:
    """Resize crops to one size, flip them and change their colors and geometry.

    Args:
        crops: uint8 (3, H, W) each.
        drawn: what is done to each.
        drawer: what drew it; has the size of the result.

    Returns:
        uint8 (B, 3, H, W)
    """
    size = list(drawer.size)
    resized = [
        functional.resize(crop, size, interpolation=each.interpolation, antialias=True)
        for crop, each in zip(crops, drawn, strict=True)
    ]
    images_B3HW = torch.stack(resized)
    _flip(images_B3HW, [each.flipped for each in drawn], -1)
    _flip(images_B3HW, [each.upside_down for each in drawn], -2)
    apply_operations(images_B3HW, [each.operations for each in drawn], drawer.fill)
    return images_B3HW


def _flip(images_B3HW: Tensor, chosen: list[bool], dim: int) -> None:
    if any(chosen):
        index = torch.tensor(chosen).nonzero()[:, 0].to(images_B3HW.device)
        images_B3HW.index_copy_(0, index, images_B3HW.index_select(0, index).flip(dim))


def erase(images_B3HW: Tensor, drawn: Sequence[Drawn]) -> None:
    """Erase boxes of normalized images in place."""
    for image_3HW, each in zip(images_B3HW, drawn, strict=True):
        for erasure in each.erasures:
            rows = slice(erasure.top, erasure.top + erasure.height)
            columns = slice(erasure.left, erasure.left + erasure.width)
            image_3HW[:, rows, columns] = torch.from_numpy(erasure.value).to(image_3HW.device)
