"""A folder with decoded images: brightness uint8, one image after another, which all processes of a machine map into memory.

| file | content |
| --- | --- |
| `header.json` | which images, how they were decoded, and whether all of them are there |
| `index.bin` | a record for each image: height, width, CRC-32 of its pixels, size and time of change of its source |
| `pixels.bin` | the pixels, (H, W, 3) |

A record is written after its pixels: a writer that was killed is resumed after the last image whose pixels are complete.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import InvalidInput
from explorer.files import write_file
from explorer.spec.base import Frozen

VERSION = 1
"""Number of the form of these files and of the rules by which images are decoded."""
RECORD = np.dtype([("height", "<u4"), ("width", "<u4"), ("checksum", "<u4"), ("size", "<i8"), ("changed", "<i8")])
Pixels = NDArray[np.uint8]
Stamp = tuple[int, int]


class Header(Frozen):
    """What the folder holds."""

    version: int = VERSION
    images: int
    """Number of images when all are written."""
    names: str
    """SHA-256 of the names of the images in order."""
    short_side: int | None
    exif_orientation: str
    complete: bool = False
    index: str = ""
    """CRC-32 of `index.bin` when it is complete."""


class DecodedFile:
    """The images of a complete folder, mapped into memory.

    Args:
        folder: the folder.
        header: what it must hold.

    Raises:
        InvalidInput: when it holds something else, is incomplete or damaged.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        written = read_header(folder)
        if written is None or not written.complete:
            raise InvalidInput("data.cache", str(folder), "is not complete; `explorer cache` resumes it")
        check_same(folder, written, header)
        self.records = np.fromfile(folder / "index.bin", RECORD)
        sizes = self.records["height"].astype(np.int64) * self.records["width"] * 3
        self.ends = np.cumsum(sizes)
        content = (folder / "index.bin").read_bytes()
        total = int(self.ends[-1]) if len(self.ends) else 0
        pixels = folder / "pixels.bin"
        is_whole = len(self.records) == header.images and pixels.is_file() and pixels.stat().st_size == total
        if not is_whole or f"{zlib.crc32(content):08x}" != written.index:
            raise InvalidInput("data.cache", str(folder), f"is damaged; {ANEW}")
        self.pixels: Pixels = np.memmap(pixels, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Pixels:
        """The pixels of an image, (H, W, 3), not copied."""
        start, end, height, width = self.place(number)
        return self.pixels[start:end].reshape(height, width, 3)

    def place(self, number: int) -> tuple[int, int, int, int]:
        """First and last byte in `pixels`, height and width of an image."""
        record, end = self.records[number], int(self.ends[number])
        height, width = int(record["height"]), int(record["width"])
        return end - height * width * 3, end, height, width

    def stamp(self, number: int) -> Stamp:
        """Size and time of change of the source of an image when it was decoded; see `FolderImages.stamp`."""
        return int(self.records[number]["size"]), int(self.records[number]["changed"])

    def verify(self, numbers: Iterable[int]) -> None:
        """Compare images with their checksums.

        Raises:
            InvalidInput: when the pixels of one changed.
        """
        for number in numbers:
            if zlib.crc32(self[number].tobytes()) != self.records[number]["checksum"]:
                raise InvalidInput("data.cache", str(self.folder), f"is damaged (image {number}); {ANEW}")


ANEW = "`explorer cache --replace` writes it anew"


class DecodedWriter:
    """Writes images one after another, from where a writer before it stopped.

    Args:
        folder: the folder; it is created if it does not exist.
        header: what it will hold.

    Raises:
        InvalidInput: when the folder holds something else.
        OSError: when files cannot be written.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self._folder, self._header = folder, header
        folder.mkdir(parents=True, exist_ok=True)
        present = read_header(folder)
        if present is None:
            if any((folder / name).exists() for name in ("pixels.bin", "index.bin")):
                raise InvalidInput("data.cache", str(folder), "has files without a header; choose an empty folder")
            write_file(folder / "header.json", header.model_dump_json(indent=1))
        else:
            check_same(folder, present, header)
        self._index = (folder / "index.bin").open("a+b")
        self._pixels = (folder / "pixels.bin").open("a+b")
        self.written = self._keep_whole_images()
        """Number of images that are there."""

    def _keep_whole_images(self) -> int:
        """Cut both files after the last image whose pixels are there and have their checksum."""
        records = np.fromfile(self._folder / "index.bin", RECORD)
        count = end = 0
        with (self._folder / "pixels.bin").open("rb") as pixels:
            for record in records:
                content = pixels.read(int(record["height"]) * int(record["width"]) * 3)
                if not content or zlib.crc32(content) != record["checksum"]:
                    break
                count, end = count + 1, end + len(content)
        self._pixels.truncate(end)
        self._index.truncate(count * RECORD.itemsize)
        return count

    def add(self, pixels_HW3: Pixels, stamp: Stamp) -> None:
        """Write the next image."""
        content = pixels_HW3.tobytes()
        height, width, _ = pixels_HW3.shape
        self._pixels.write(content)
        self._pixels.flush()
        self._index.write(np.array((height, width, zlib.crc32(content), *stamp), RECORD).tobytes())
        self._index.flush()

    def close(self) -> None:
        """Close the files; all images that were added can be resumed after."""
        self._pixels.close()
        self._index.close()

    def finish(self) -> None:
        """Declare the folder complete."""
        for file in (self._pixels, self._index):
            file.flush()
            os.fsync(file.fileno())
        self.close()
        index = f"{zlib.crc32((self._folder / 'index.bin').read_bytes()):08x}"
        header = self._header.model_copy(update={"complete": True, "index": index})
        write_file(self._folder / "header.json", header.model_dump_json(indent=1))


def read_header(folder: Path) -> Header | None:
    """The header of a folder; `None` if there is none.

    Raises:
        InvalidInput: when it cannot be read, or is not a header of this version.
    """
    try:
        content: Any = json.loads((folder / "header.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput("data.cache", str(folder), f"header.json cannot be read: {error}; {ANEW}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise InvalidInput("data.cache", str(folder), f"has version {version}, and this release reads {VERSION}; {ANEW}")
    return Header.model_validate(content)


def check_same(folder: Path, written: Header, wanted: Header) -> None:
    """Refuse a folder of other images, sizes or orientation.

    Raises:
        InvalidInput: naming what differs.
    """
    for field, what in (("short_side", "short_side"), ("exif_orientation", "exif_orientation"), ("names", "images")):
        before, now = getattr(written, field), getattr(wanted, field)
        if before != now:
            differs = "holds other images than this data set has" if what == "images" else f"has {what} {before}, not {now}"
            raise InvalidInput("data.cache", str(folder), f"{differs}; {ANEW}, or name another folder in data.cache.folder")
