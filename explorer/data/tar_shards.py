"""Tar files in the WebDataset format with random access, which resuming, shuffling and several processes need.

timm's own reader (`wds/...`) reads them in sequence. The format (https://github.com/webdataset/webdataset): the files of one
sample are adjacent and have the same name with different extensions, here an image and its label: `0001.jpg`, `0001.cls`.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from timm.data.readers.img_extensions import get_img_extensions

from explorer.data.streamed import StreamedData
from explorer.data.timm_datasets import require_root
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec


def open_tar_shards(spec: DataSpec) -> StreamedData:
    """Open tar files in the WebDataset format under `spec.root`; see `TarShards` for how splits are named.

    Raises:
        InvalidInput: when a file is missing or not a tar file of images and labels.
    """
    root = require_root(spec)
    validation = None
    if spec.validation_split is not None:
        validation = TarShards(root, spec.validation_split, "data.validation_split")
    train = TarShards(root, spec.train_split, "data.train_split")
    return StreamedData(spec, train, TarShards(root, spec.test_split, "data.test_split"), validation)


class TarShards:
    """The images of a split.

    Args:
        root: folder of the tar files.
        split: names of the files, with a range in braces (`train-{000..146}.tar`), or their common prefix (`train`).
        field: name of the setting that holds the split, for error messages.

    Raises:
        InvalidInput: when there is no such file, it is not a tar file, or an image has no label.
    """

    def __init__(self, root: Path, split: str, field: str) -> None:
        self._shards = _shards(root, split, field)
        self._images: list[tuple[int, int, int]] = []
        """Number of the shard, first byte and size in bytes of each image."""
        self.targets: list[int] = []
        """Label of each image."""
        for number, shard in enumerate(self._shards):
            try:
                for start, size, label in _samples(shard):
                    self._images.append((number, start, size))
                    self.targets.append(label)
            except (OSError, ValueError, tarfile.TarError) as error:
                raise InvalidInput("data.root", shard.name, f"is not a tar file of images and labels: {error}") from None
        if not self._images:
            raise InvalidInput(field, split, f"has no images under {root}")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        shard, start, size = self._images[number]
        with self._shards[shard].open("rb") as file:
            file.seek(start)
            return Image.open(io.BytesIO(file.read(size))), self.targets[number]


def _shards(root: Path, split: str, field: str) -> list[Path]:
    """The tar files of a split, in order."""
    if span := re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", split):
        before, first, last, after = span.groups()
        paths = [root / f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]
    else:
        paths = sorted(root.glob(f"{split}*.tar"))
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise InvalidInput(field, split, f"there is no {missing[0] if missing else f'{split}*.tar'} in {root}")
    return paths


def _samples(shard: Path) -> Iterator[tuple[int, int, int]]:
    """First byte, size in bytes and label of each image of a tar file."""
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
                assert file is not None  # it is a regular file
                labels[key] = int(file.read())
            elif f".{extension.lower()}" in extensions:
                images[key] = member.offset_data, member.size
    for key, (start, size) in images.items():
        if key not in labels:
            raise ValueError(f"{key} has no label ({key}.cls)")
        yield start, size, labels[key]
