"""How an image of any kind becomes 8-bit RGB, in training, evaluation and inspection alike.

| image | becomes |
| --- | --- |
| `RGB`, 8 bits | unchanged |
| grayscale (`L`), black and white (`1`), palette (`P`), `CMYK`, `YCbCr`, `HSV` | Pillow's conversion |
| with transparency (`LA`, `RGBA`, `PA`, a transparent color) | laid on white |
| 16-bit grayscale (`I;16`), integers (`I`) from 0 to 65535 | value / 257, rounded: 65535 becomes 255 |
| floats (`F`) from 0 to 1 | value x 255, rounded |
| values outside these ranges, other modes | refused |
| several frames (GIF, TIFF) | the first one |

Pillow's own `convert("RGB")` clips 16-bit values and floats at 255 and drops transparency.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from explorer.spec.data import DataSpec

MAX_16_BIT = 65535
SCALE_16_BIT = 257
"""65535 / 255: a 16-bit value divided by it is the 8-bit value of the same brightness."""
WITHOUT_DECODER = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow recognizes but does not decode without other programs."""

TRANSPARENT = "images with transparency, laid on white"
SIXTEEN_BIT = "images with 16 bits per value, scaled to 8"
FLOAT = "images of floats from 0 to 1, scaled to 8 bits"
FRAMES = "images with several frames, of which the first is read"
LARGE = "images with more pixels than Pillow warns of"
ORIENTED = {
    "ignore": "images with an orientation in EXIF, which is ignored (data.exif_orientation)",
    "apply": "images with an orientation in EXIF, which are turned upright",
}


def image_formats() -> tuple[str, ...]:
    """Names of the formats that Pillow decodes, in order."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - set(WITHOUT_DECODER)))


@contextmanager
def large_images_allowed() -> Iterator[None]:
    """No warning for large images; Pillow still refuses those of twice the size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def to_rgb(image: Image.Image, exif_orientation: str = "ignore") -> Image.Image:
    """Decode an image to 8-bit RGB by the rule of this module.

    Args:
        image: the image, decoded or not.
        exif_orientation: `DataSpec.exif_orientation`.

    Raises:
        ValueError: when its values are outside the stated range, or its mode is not supported.
        Exception: what Pillow raises for damaged images: OSError, SyntaxError and others.
    """
    if exif_orientation == "apply":
        image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode.startswith("I"):
        values = np.asarray(image)
        if (transparent := image.info.get("transparency")) is not None:  # the value of a PNG file that is transparent
            values = np.where(values == transparent, MAX_16_BIT, values)
        return _gray(values, MAX_16_BIT, SCALE_16_BIT)
    if mode == "F":
        return _gray(np.asarray(image), 1, 1 / 255)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _gray(values: NDArray[np.generic], largest: int, scale: float) -> Image.Image:
    """An image of numbers from 0 to `largest`, divided by `scale`."""
    numbers = values.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    if not (low >= 0 and high <= largest):  # NaN is neither
        raise ValueError(f"has values from {low:g} to {high:g}, outside the range from 0 to {largest}")
    return Image.fromarray(np.rint(numbers / scale).astype(np.uint8)).convert("RGB")


def remarks_on(image: Image.Image, spec: DataSpec) -> tuple[str, ...]:
    """What a user may not expect of an opened image, and how it is treated; see `SplitInventory.remarks`."""
    remarks = []
    if image.mode.startswith("I"):
        remarks.append(SIXTEEN_BIT)
    if image.mode == "F":
        remarks.append(FLOAT)
    if image.has_transparency_data:
        remarks.append(TRANSPARENT)
    # Cameras write JPEG files with a preview as a second frame (MPO).
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        remarks.append(FRAMES)
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        remarks.append(LARGE)
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        remarks.append(ORIENTED[spec.exif_orientation])
    return tuple(remarks)
