"""Images in files: what the data sets that list files have in common."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from explorer.data.decoding import image_formats, large_images_allowed
from explorer.data.packed_strings import PackedStrings


class ImageFiles:
    """An `ImageDataset` of files.

    Args:
        paths: path of each image.
        names: path of each image relative to the root.
        targets: target of each image.
    """

    def __init__(self, paths: Iterable[str], names: Sequence[str], targets: Sequence[Any]) -> None:
        self._paths = PackedStrings(paths)
        self.names, self.targets = names, targets

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[Image.Image, Any]:
        with large_images_allowed():
            return Image.open(io.BytesIO(self.read(number)), formats=image_formats()), self.targets[number]

    def read(self, number: int) -> bytes:
        """The encoded content of an image."""
        return Path(self._paths[number]).read_bytes()

    def stamp(self, number: int) -> tuple[int, int]:
        """Size in bytes and time of change in nanoseconds of the file: they tell whether it changed."""
        return stamp_of_file(self._paths[number])


def stamp_of_file(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds of a file; (-1, -1) if it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def printable(name: str) -> str:
    """A file name as text that can be written to any file: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
