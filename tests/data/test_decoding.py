"""Each kind of image with its 8-bit RGB values worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from explorer.data.decoding import FLOAT, FRAMES, ORIENTED, SIXTEEN_BIT, TRANSPARENT, remarks_on, to_rgb
from explorer.spec import DataSpec

SPEC = DataSpec(name="folder")


def stored(image: Image.Image, kind: str, **options) -> Image.Image:
    """The image as it comes from a file."""
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return Image.open(file)


def row(image: Image.Image) -> list[tuple[int, int, int]]:
    """The pixels of the first row."""
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    return [rgb.getpixel((column, 0)) for column in range(rgb.width)]


def gray(*values: int) -> list[tuple[int, int, int]]:
    return [(value, value, value) for value in values]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    """257 is 1 of 255; 128 is .498 of it and 129 is .502; Pillow's own conversion makes all but the first two 255."""
    image = stored(Image.fromarray(np.array([[0, 128, 129, 257, 32896, 65535]], dtype=np.uint16)), kind)
    assert image.mode.startswith("I")
    assert row(image) == gray(0, 0, 1, 1, 128, 255)
    assert remarks_on(image, SPEC) == (SIXTEEN_BIT,)


def test_integers_and_floats_have_a_stated_range():
    assert row(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.int32))) == gray(0, 1, 255)
    floats = stored(Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)), "TIFF")
    assert row(floats) == gray(0, 128, 255)  # 127.5 is rounded to even
    assert remarks_on(floats, SPEC) == (FLOAT,)
    for wrong in (np.array([[0, 65536]], np.int32), np.array([[-1, 5]], np.int32), np.array([[0, 1.5]], np.float32)):
        with pytest.raises(ValueError, match="outside the range from 0 to"):
            to_rgb(Image.fromarray(wrong))
    with pytest.raises(ValueError, match="has values from nan"):
        to_rgb(Image.fromarray(np.array([[0, np.nan]], np.float32)))


def test_transparency_is_laid_on_white():
    """Half transparent black on white is gray; what is hidden under full transparency is not seen."""
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert row(stored(half, "PNG")) == gray(127)  # 255 * (255 - 128) / 255
    assert row(stored(Image.new("LA", (1, 1), (40, 0)), "PNG")) == gray(255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putdata([0, 1])
    assert row(stored(palette, "PNG")) == [(200, 0, 0), (0, 200, 0)]
    see_through = stored(palette, "PNG", transparency=0)
    assert row(see_through) == [(255, 255, 255), (0, 200, 0)]
    assert remarks_on(see_through, SPEC) == (TRANSPARENT,)
    sixteen_bits = stored(Image.fromarray(np.array([[257, 514, 65535]], np.uint16)), "PNG", transparency=257)
    assert row(sixteen_bits) == gray(255, 2, 255)
    assert remarks_on(sixteen_bits, SPEC) == (SIXTEEN_BIT, TRANSPARENT)


def test_other_modes_are_converted_by_pillow():
    assert row(stored(Image.new("1", (1, 1), 1), "PNG")) == gray(255)
    assert row(stored(Image.new("L", (1, 1), 7), "PNG")) == gray(7)
    assert row(stored(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == [(255, 0, 0)]
    assert remarks_on(stored(Image.new("RGB", (1, 1)), "PNG"), SPEC) == ()


def test_of_several_frames_the_first_is_read():
    frames = stored(Image.new("L", (1, 1), 9), "GIF", save_all=True, append_images=[Image.new("L", (1, 1), 200)])
    assert row(frames) == gray(9)
    assert remarks_on(frames, SPEC) == (FRAMES,)


def test_an_orientation_in_exif_is_applied_by_choice():
    """Orientation 6: the camera was turned, and the left edge of the stored image is its top."""
    image = Image.new("RGB", (2, 1))
    image.putdata([(255, 255, 255), (0, 0, 0)])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = stored(image, "PNG", exif=exif)
    assert to_rgb(turned).size == (2, 1)
    upright = to_rgb(turned, "apply")
    assert upright.size == (1, 2)
    assert [upright.getpixel((0, y)) for y in (0, 1)] == gray(255, 0)
    assert remarks_on(turned, SPEC) == (ORIENTED["ignore"],)
    exif[0x0112] = 1
    assert remarks_on(stored(image, "PNG", exif=exif), SPEC) == ()
