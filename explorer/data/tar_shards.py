"""Tar files in the WebDataset format with random access, which resuming, shuffling and several processes need.

timm's own reader (`wds/...`) reads them in sequence. The format (https://github.com/webdataset/webdataset): a file's name is
split at the first dot after its folder into the key of its sample and an extension, `a/0001.seg.png` into `a/0001` and
`seg.png`. Here a sample has one image, whose extension is that of an image format (`jpg`), and one label, whose extension is
`cls`. Files with other extensions are passed over and counted; what leaves the image or the label open is refused.
"""

from __future__ import annotations

import glob
import io
import re
import tarfile
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from explorer.data.decoding import image_formats
from explorer.data.image_files import printable, stamp_of_file
from explorer.data.root import require_root
from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec

LABEL = "cls"
"""Extension of the file that holds a label: an integer as text."""
MAX_PADDING = 1 << 20
"""Bytes after the end of an archive that are searched for another archive."""


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
    test = None if spec.test_split is None else TarShards(root, spec.test_split, "data.test_split")
    return StreamedData(spec, train, test, validation)


class TarShards:
    """The images of a split.

    Args:
        root: folder of the tar files.
        split: names of the files, with a range in braces (`train-{000..146}.tar`), or their common prefix (`train`).
        setting: name of the setting that holds the split, for error messages.

    Raises:
        InvalidInput: when there is no such file, it is not a complete tar file, or the image or label of a sample is not clear.
    """

    is_listed_with_sizes = False
    """See `OpenedSplit`: the size of a tar file is not that of its images."""

    def __init__(self, root: Path, split: str, setting: str) -> None:
        self._shards = _shards(root, split, setting)
        self._shard_numbers, self._starts, self._sizes = array("q"), array("q"), array("q")
        """Number of the shard, first byte and size in bytes of each image."""
        # Taken before the shards are read: what is read from one that changes later is then recorded as out of date.
        self._stamps = [stamp_of_file(shard) for shard in self._shards]
        self.targets: list[int] = []
        """Label of each image."""
        self.names: list[str] = []
        """Tar file, relative to the root, and name within it of each image."""
        passed_over: Counter[str] = Counter()
        for number, shard in enumerate(self._shards):
            name = printable(shard.relative_to(root).as_posix())
            try:
                content = _read(shard)
                for key, sample in content.samples.items():
                    image_name, start, size, label = sample.checked(key)
                    self._shard_numbers.append(number)
                    self._starts.append(start)
                    self._sizes.append(size)
                    self.targets.append(label)
                    self.names.append(f"{name}/{printable(image_name)}")
            except (OSError, ValueError, tarfile.TarError) as error:
                raise InvalidInput(
                    "data.root", name, f"is not a tar file of images and labels: {printable(str(error))}"
                ) from None
            passed_over.update({printable(reason): count for reason, count in content.passed_over.items()})
        self.passed_over = dict(passed_over)
        """Number of files that are neither image nor label, by reason."""
        if not self._sizes:
            raise InvalidInput(setting, split, f"has no images under {root}")

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.open(io.BytesIO(self.read(number))), self.targets[number]

    def read(self, number: int) -> bytes:
        """The encoded content of an image."""
        with self._shards[self._shard_numbers[number]].open("rb") as file:
            file.seek(self._starts[number])
            return file.read(self._sizes[number])

    def stamp(self, number: int) -> tuple[int, int]:
        """Size in bytes and time of change in nanoseconds of the tar file of an image when it was opened."""
        return self._stamps[self._shard_numbers[number]]


def _shards(root: Path, split: str, setting: str) -> list[Path]:
    """The tar files of a split, in order."""
    if span := re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", split):
        before, first, last, after = span.groups()
        paths = [root / f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]
    else:
        # `train-000.tar` belongs to `train`, and `training.tar` does not.
        found = root.glob(f"{glob.escape(split)}*.tar") if split else ()
        start = len(Path(split).name)
        paths = sorted(path for path in found if not path.name[start].isalpha())
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise InvalidInput(setting, split, f"there is no {missing[0] if missing else f'{split}*.tar'} in {root}")
    return paths


@dataclass
class _Sample:
    """The files of a tar file that belong to one key."""

    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First byte and size of each image by its name."""
    labels: dict[str, bytes] = field(default_factory=dict)
    """Content of each label by its name."""
    others: list[str] = field(default_factory=list)
    """Names of the other files."""

    def checked(self, key: str) -> tuple[str, int, int, int]:
        """Name, first byte, size and label of the only image.

        Raises:
            ValueError: when there is not one image and one label, or the label is not an integer.
        """
        also = f"; it has {', '.join(self.others[:3])}" if self.others else ""
        if not self.images:
            raise ValueError(f"{key} has a label and no image ({key}.jpg or another image format){also}")
        if not self.labels:
            raise ValueError(f"{key} has no label ({key}.{LABEL}){also}")
        for kind, files in (("images", self.images), ("labels", self.labels)):
            if len(files) > 1:
                raise ValueError(f"{key} has several {kind}: {', '.join(files)}")
        ((label_name, text),) = self.labels.items()
        if not re.fullmatch(rb"\s*[+-]?\d+\s*", text):
            raise ValueError(f"{label_name} must hold an integer, not {text[:20]!r}")
        ((image_name, (start, size)),) = self.images.items()
        return image_name, start, size, int(text)


@dataclass
class _Content:
    """The files of a tar file."""

    samples: dict[str, _Sample] = field(default_factory=dict)
    """Files by the key of their sample; each sample has an image or a label."""
    passed_over: Counter[str] = field(default_factory=Counter)


def _read(shard: Path) -> _Content:
    """Read the headers and labels of a tar file.

    Raises:
        OSError, ValueError, tarfile.TarError: when it is not a complete tar file, or has two files of one name.
    """
    image_extensions = _image_extensions()
    samples: dict[str, _Sample] = {}
    content = _Content()
    names = set()
    with tarfile.open(shard, "r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            # As in webdataset: the key is the folder and what precedes the first dot of the file's name.
            split = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", member.name)
            if not member.isfile() or split is None:
                content.passed_over["hidden files, links and files without an extension"] += 1
                continue
            if member.name in names:
                raise ValueError(f"it has {member.name} twice")
            names.add(member.name)
            key, extension = split[1], split[2].lower()
            sample = samples.setdefault(key, _Sample())
            if extension == LABEL:
                file = archive.extractfile(member)
                assert file is not None  # it is a regular file
                sample.labels[member.name] = file.read()
            elif extension in image_extensions:
                sample.images[member.name] = member.offset_data, member.size
            else:
                sample.others.append(member.name)
                if extension.endswith(f".{LABEL}"):
                    raise ValueError(f"{member.name} may be a label, but that of {key} is {key}.{LABEL}")
        _check_end(shard, archive.offset)
    for key, sample in samples.items():
        if sample.images or sample.labels:
            content.samples[key] = sample
        for name in sample.others:
            extension = name.rpartition("/")[2].partition(".")[2]
            content.passed_over[f".{extension}: neither image nor label"] += 1
    return content


def _check_end(shard: Path, end: int) -> None:
    """Check that an archive ends with zeros: else it was cut off, or another one was appended, which would not be read."""
    with shard.open("rb") as file:
        file.seek(end)
        padding = file.read(MAX_PADDING)
    if not padding:
        raise ValueError("it is cut off: the end of the archive is missing")
    if padding.strip(b"\0"):
        raise ValueError("there is more after the end of the archive, such as another archive that was appended")


def _image_extensions() -> frozenset[str]:
    """Extensions of the formats that Pillow decodes, without the dot."""
    formats = image_formats()  # loads them
    return frozenset(extension[1:] for extension, name in Image.registered_extensions().items() if name in formats)
