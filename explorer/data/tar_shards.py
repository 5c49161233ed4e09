"""Tar files in the WebDataset format, read by image number: runs go on, share and shuffle by it.

timm's own reader (`wds/...`) reads them in sequence. The format: https://github.com/webdataset/webdataset; the files of one
sample stand together and have one name but for the extension, here an image and its class number: `0001.jpg`, `0001.cls`.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from timm.data.readers.img_extensions import get_img_extensions

from explorer.errors import InvalidInput


class TarShards:
    """The images of a split.

    Args:
        root: folder of the tar files.
        split: their names, with a range in braces (`train-{000..146}.tar`), or how they begin (`train`).

    Raises:
        InvalidInput: when there is no such file, it is no tar file, or an image has no class number.
    """

    def __init__(self, root: str, split: str) -> None:
        self._shards = _shards(Path(root), split)
        self._images: list[tuple[int, int, int]] = []
        """Shard, first byte and size of each image."""
        self.targets: list[int] = []
        """Class of each image."""
        for number, shard in enumerate(self._shards):
            try:
                for start, size, label in _samples(shard):
                    self._images.append((number, start, size))
                    self.targets.append(label)
            except (OSError, ValueError, tarfile.TarError) as error:
                raise InvalidInput("data.root", shard.name, f"is no tar file of images and class numbers: {error}") from None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        shard, start, size = self._images[number]
        with self._shards[shard].open("rb") as file:
            file.seek(start)
            return Image.open(io.BytesIO(file.read(size))), self.targets[number]


def _shards(root: Path, split: str) -> list[Path]:
    """The tar files of a split, in order."""
    if span := re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", split):
        before, first, last, after = span.groups()
        found = [root / f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]
    else:
        found = sorted(root.glob(f"{split}*.tar"))
    missing = [path.name for path in found if not path.is_file()]
    if missing or not found:
        raise InvalidInput("data", split, f"there is no {missing[0] if missing else f'{split}*.tar'} in {root}")
    return found


def _samples(shard: Path) -> Iterator[tuple[int, int, int]]:
    """First byte, size and class of each image of a tar file."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    extensions = get_img_extensions(as_set=True)
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            key, _, extension = member.name.rpartition(".")
            if not member.isfile():
                continue
            if extension == "cls":
                file = archive.extractfile(member)
                assert file is not None  # it is a file
                labels[key] = int(file.read())
            elif f".{extension.lower()}" in extensions:
                images[key] = member.offset_data, member.size
    for key, (start, size) in images.items():
        if key not in labels:
            raise ValueError(f"{key} has no class number ({key}.cls)")
        yield start, size, labels[key]
