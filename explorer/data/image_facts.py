"""What is found out about an image by reading and decoding it, for many images in parallel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from explorer.data.array_images import OUTSIDE, as_image, check_channels
from explorer.data.decoding import large_images_allowed, remarks_on, to_rgb
from explorer.data.image_access import reason_of
from explorer.spec.data import DataSpec

MIN_FOR_PROCESSES = 512
"""Images from which on processes are started to read them."""
CHUNK = 16
"""Images that a process reads before it reports."""


class ImageFacts(NamedTuple):
    """What is known of an image that was read and decoded, or that could not be."""

    mode: str
    """Pillow's mode, before the image is made RGB; the number of channels of a tensor."""
    width: int
    height: int
    remarks: tuple[str, ...]
    """See `SplitInventory.remarks`."""
    brightest: int
    """Largest value of an image with 16 bits per value; -1 for others."""
    digest: str
    """SHA-256 of the encoded content, or of the pixels where a data set has no encoded content."""
    error: str
    """Why it cannot be read; empty if it can. Without a digest, its content could not be read this time."""


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NumberedImage(NamedTuple):
    """An image of a data set."""

    data: Any
    number: int


def examine(image: NumberedImage, spec: DataSpec) -> ImageFacts:
    """Read and decode an image as training does, and return what was found."""
    digest = ""
    try:
        if hasattr(image.data, "read"):
            content = image.data.read(image.number)
            digest = hashlib.sha256(content).hexdigest()
            if not content:
                raise ValueError("the file is empty")
        with large_images_allowed():
            opened = as_image(image.data[image.number][0])
            check_channels(opened, getattr(image.data, "channels", None))
            if isinstance(opened, Tensor):
                return _facts_of_tensor(opened)
            remarks = remarks_on(opened, spec)
            to_rgb(opened, spec.exif_orientation)
        if not digest:
            described = f"{opened.mode} {opened.size}".encode()
            digest = hashlib.sha256(described + opened.tobytes()).hexdigest()
        brightest = int(np.asarray(opened).max()) if opened.mode.startswith("I") else -1
        return ImageFacts(opened.mode, opened.width, opened.height, remarks, brightest, digest, "")
    except Exception as error:  # every format fails in its own way
        return ImageFacts("", 0, 0, (), -1, digest, reason_of(error) or type(error).__name__)


def _facts_of_tensor(image: Tensor) -> ImageFacts:
    """What is known of an image that is a tensor float32 (C, H, W)."""
    low, high = image.aminmax()
    if not (low.isfinite() and high.isfinite()):
        raise ValueError("has values that are not finite")
    channels, height, width = image.shape
    remarks = (OUTSIDE,) if channels == 3 and (low < 0 or high > 1) else ()  # for others, the user gives mean and deviation
    digest = hashlib.sha256(f"{tuple(image.shape)}".encode() + image.numpy().tobytes()).hexdigest()
    return ImageFacts(f"{channels} channels", width, height, remarks, -1, digest, "")


def examine_all(images: Mapping[str, NumberedImage], spec: DataSpec) -> Iterator[tuple[str, ImageFacts]]:
    """Examine images by name, in one process for each CPU where there are many; yields name and facts in order."""
    loader = DataLoader(
        _Examined(list(images.values()), spec),
        CHUNK,
        num_workers=available_cpus() if len(images) >= MIN_FOR_PROCESSES else 0,
        collate_fn=list,
        generator=torch.Generator(),  # the global random state stays as it is
    )
    names = iter(images)
    for chunk in loader:
        yield from zip(islice(names, len(chunk)), chunk, strict=True)


class _Examined(Dataset[ImageFacts]):
    """The facts of images by their position."""

    def __init__(self, images: list[NumberedImage], spec: DataSpec) -> None:
        self.images, self.spec = images, spec

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> ImageFacts:
        return examine(self.images[position], self.spec)
