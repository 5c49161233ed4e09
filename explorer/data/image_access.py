"""How the images of any data set are named, read, decoded and left out, whatever it has beside `ImageDataset`'s two methods."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision.io import decode_jpeg

from explorer.data.array_images import ModelImage, as_image, check_channels
from explorer.data.decoding import large_images_allowed, to_rgb
from explorer.errors import UnreadableImageError

OPTIONAL = ("classes", "class_to_idx", "passed_over", "remarks", "channels", "target_kind", "is_listed_with_sizes")
"""What a data set may have beside its images that does not depend on how many there are."""


def image_name(data: Any, number: int, split: str | None) -> str:
    """Name of an image: its path relative to the root, or `train/123` if the data set does not name its images."""
    names: Sequence[str] | None = getattr(data, "names", None)
    return names[number] if names is not None else f"{split}/{number}"


def decoded_image(data: Any, number: int, split: str | None, exif_orientation: str) -> ModelImage:
    """An image as 8-bit RGB, or a tensor float32 (C, H, W) where the images of the data set are tensors.

    Raises:
        UnreadableImageError: naming the image; another one never takes its place.
    """
    try:
        with large_images_allowed():
            image = as_image(data[number][0])
            check_channels(image, getattr(data, "channels", None))
            return to_rgb(image, exif_orientation) if isinstance(image, Image.Image) else image
    except Exception as error:  # every format fails in its own way
        raise UnreadableImageError(f"{image_name(data, number, split)} cannot be read: {reason_of(error)}") from error


def rgb_pixels(data: Any, number: int, split: str | None, exif_orientation: str) -> NDArray[np.uint8]:
    """The pixels of an image, (H, W, 3); an RGB JPEG is decoded by torchvision, which is faster than Pillow.

    Raises:
        UnreadableImageError: see `decoded_image`.
    """
    if hasattr(data, "read") and exif_orientation == "ignore":
        try:
            content = data.read(number)
            if content.startswith(b"\xff\xd8") and Image.open(io.BytesIO(content)).mode == "RGB":
                encoded = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
                return decode_jpeg(encoded).permute(1, 2, 0).numpy()
        except Exception:  # Pillow says what is wrong with the image, or decodes it
            pass
    return np.asarray(decoded_image(data, number, split, exif_orientation))


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file, or it is a link to a missing one"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow decodes"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.split())


class KeptImages:
    """A data set without some of its images.

    Args:
        data: the data set.
        split: its name, for images without names.
        kept: numbers of the images that are kept.
        labels: labels of all images.
    """

    def __init__(self, data: Any, split: str | None, kept: Sequence[int], labels: Sequence[Any]) -> None:
        self._data, self._kept = data, kept
        self.targets = [labels[number] for number in kept]
        self.names = [image_name(data, number, split) for number in kept]
        names_kept = set(self.names)
        self.left_out = [name for n in range(len(labels)) if (name := image_name(data, n, split)) not in names_kept]
        """Names of the images that are left out."""
        reader = getattr(data, "reader", data)  # of timm's data sets
        for name in OPTIONAL:
            if hasattr(data, name) or hasattr(reader, name):
                setattr(self, name, getattr(data, name, None) or getattr(reader, name, None))
        for name in ("read", "stamp"):
            if hasattr(data, name):
                setattr(self, name, partial(_renumbered, getattr(data, name), kept))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        image, target = self._data[self._kept[number]]
        return image, target


def _renumbered(method: Callable[[int], Any], kept: Sequence[int], number: int) -> Any:
    return method(kept[number])


def without_images(data: Any, split: str | None, skip_files: Collection[str], labels_of: Callable[[Any], Sequence[Any]]) -> Any:
    """The data set without the images whose names are in `skip_files`; the same object if it has none of them.

    Args:
        data: the data set, or `None`.
        split: its name, for images without names.
        skip_files: `DataSpec.skip_files`.
        labels_of: reads the labels of all images.
    """
    if data is None or not skip_files:
        return data
    skipped = set(skip_files)
    kept = [number for number in range(len(data)) if image_name(data, number, split) not in skipped]
    return data if len(kept) == len(data) else KeptImages(data, split, kept, labels_of(data))
