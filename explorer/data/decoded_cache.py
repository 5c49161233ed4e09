"""The decoded images of a data set on this machine: where they are, how they are written, and whether they are up to date."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from explorer.console import print_line
from explorer.data.array_images import as_image
from explorer.data.decoded_file import ANEW, DecodedFile, DecodedWriter, Header, Pixels, Stamp
from explorer.data.decoding import large_images_allowed
from explorer.data.image_access import decoded_image, image_name
from explorer.data.image_facts import MIN_FOR_PROCESSES, available_cpus
from explorer.data.opened_split import OpenedSplit
from explorer.data.remembered import cache_folder
from explorer.errors import InvalidInput, UnreadableImageError
from explorer.file_lock import fcntl_module
from explorer.paths import expanded
from explorer.spec.data import CacheSpec, DataSpec

if TYPE_CHECKING:
    from rich.console import Console

MEASURED_IMAGES = 512
"""Images, evenly spaced, whose sizes tell how much space all of them need."""
VERIFIED_IMAGES = 64
"""Images, evenly spaced, that are compared with their checksums when a file is opened."""
COMPARED_IMAGES = 8
"""Images, evenly spaced, that are decoded and compared where a source does not tell whether its files changed."""
CHUNK = 8
"""Images that a process decodes before it hands them over."""
NO_STAMP = (-1, -1)

Splits = Mapping[str, OpenedSplit]


@dataclass(frozen=True)
class NamedImage:
    """An image of a data set and the split that it was opened for."""

    data: Any
    number: int
    of: str | None

    @property
    def stamp(self) -> Stamp:
        """Size and time of change of its file; `NO_STAMP` if the data set does not tell."""
        stamp = getattr(self.data, "stamp", None)
        return NO_STAMP if stamp is None else stamp(self.number)


class DecodedCache:
    """The decoded images of all splits.

    Args:
        spec: the data set; `spec.cache` says where and how large.
        splits: its images by role.
    """

    def __init__(self, spec: DataSpec, splits: Splits) -> None:
        self._spec, self._splits = spec, list(splits.values())
        cache = spec.cache or CacheSpec()
        self.short_side = cache.short_side
        ends = list(accumulate(len(split.numbers) for split in self._splits))
        self._firsts = [0, *ends[:-1]]
        self.first = dict(zip(splits, self._firsts, strict=True))
        """Place of the first image of each split by its role."""
        names = hashlib.sha256()
        for split in self._splits:
            for name in split.image_names:
                names.update(f"{name}\n".encode())
        self.header = Header(
            images=ends[-1],
            names=names.hexdigest(),
            short_side=self.short_side,
            exif_orientation=spec.exif_orientation,
        )
        self.folder = _default_folder(spec, self.short_side)
        if cache.folder is not None:
            self.folder = Path(expanded(cache.folder, "data.cache.folder"))

    def __len__(self) -> int:
        return self.header.images

    def image(self, place: int) -> NamedImage:
        """The image at a place in the file."""
        number = bisect_right(self._firsts, place) - 1
        split = self._splits[number]
        return NamedImage(split.data, split.numbers[place - self._firsts[number]], split.of)

    @property
    def is_complete(self) -> bool:
        """Whether the file was written to its end; it may be out of date."""
        try:
            return bool(json.loads((self.folder / "header.json").read_bytes()).get("complete"))
        except (OSError, ValueError, AttributeError):
            return False

    def needed_bytes(self) -> int:
        """Approximate size of all decoded images, from the sizes of some of them."""
        measured = [self._decoded_bytes(self.image(n)) for n in spaced(len(self), MEASURED_IMAGES)]
        known = [size for size in measured if size is not None]
        return round(len(self) * sum(known) / max(1, len(known)))

    def _decoded_bytes(self, image: NamedImage) -> int | None:
        try:
            with large_images_allowed():
                opened = as_image(image.data[image.number][0])
                assert isinstance(opened, Image.Image)
        except Exception:  # writing the file reports it
            return None
        width, height = reduced_size(opened.width, opened.height, self.short_side)
        return 3 * width * height

    def free_bytes(self) -> int:
        """Free space of the disk of the file."""
        existing = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def open(self) -> DecodedFile:
        """Map a complete file into memory.

        Raises:
            InvalidInput: when it is incomplete, damaged, of other images, or of sources that changed.
        """
        file = DecodedFile(self.folder, self.header)
        changed = None
        for place in range(len(file)):
            if self.image(place).stamp != file.stamp(place):
                changed = self.image(place)
                break
        else:
            file.verify(spaced(len(file), VERIFIED_IMAGES))
            without_stamps = [n for n in spaced(len(file), COMPARED_IMAGES) if self.image(n).stamp == NO_STAMP]
            different = (n for n in without_stamps if not np.array_equal(file[n], self.decode(self.image(n))))
            changed = next((self.image(n) for n in different), None)
        if changed is not None:
            name = image_name(changed.data, changed.number, changed.of)
            raise InvalidInput("data.cache", str(self.folder), f"is out of date: {name} changed since it was written; {ANEW}")
        return file

    def open_or_write(self, console: Console | None = None) -> DecodedFile:
        """Map the file into memory, after writing what is missing of it. One process of a machine writes, the others wait.

        Raises:
            InvalidInput: see `open`; or when the disk has too little space.
            UnreadableImageError: when an image cannot be decoded.
        """
        if not self.is_complete:
            try:
                with _only_one(self.folder):
                    if not self.is_complete:
                        self._write(console)
            except UnreadableImageError:
                raise
            except OSError as error:
                allowed = f"cannot be written: {error.strerror or error}; what is written is kept, and resumed from"
                raise InvalidInput("data.cache", str(self.folder), allowed) from None
        return self.open()

    def remove(self) -> None:
        """Remove the files, if they exist."""
        for name in ("header.json", "index.bin", "pixels.bin"):
            (self.folder / name).unlink(missing_ok=True)

    def decode(self, image: NamedImage) -> Pixels:
        """The pixels of an image as they are in the file, (H, W, 3)."""
        opened = decoded_image(image.data, image.number, image.of, self._spec.exif_orientation)
        assert isinstance(opened, Image.Image)  # data sets of tensors have no such file
        size = reduced_size(*opened.size, self.short_side)
        if size != opened.size:
            opened = opened.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(opened)

    def _write(self, console: Console | None) -> None:
        needed, free = self.needed_bytes(), self.free_bytes()
        writer = DecodedWriter(self.folder, self.header)
        try:
            missing = len(self) - writer.written
            needed = round(needed * missing / max(1, len(self)))
            if needed > free:
                room = f"needs about {gigabytes(needed)}, and {gigabytes(free)} are free"
                allowed = f"{room}; set data.cache.short_side or data.cache.folder"
                raise InvalidInput("data.cache", str(self.folder), allowed)
            if console is not None:
                resumed = f", after {writer.written:,} that are there" if writer.written else ""
                room = f"about {gigabytes(needed)} of {gigabytes(free)} free"
                print_line(console, f"decoding {missing:,} images into {self.folder}{resumed}: {room}")
            with _progress(missing, console) as advance:
                for pixels, stamp in self._decoded(writer.written):
                    writer.add(pixels, stamp)
                    advance()
            writer.finish()
        finally:
            writer.close()

    def _decoded(self, first: int) -> Iterator[tuple[Pixels, Stamp]]:
        """The images from a place on, decoded by one process for each CPU where there are many."""
        missing = len(self) - first
        loader = DataLoader(
            _Decoded(self, first),
            CHUNK,
            num_workers=available_cpus() if missing >= MIN_FOR_PROCESSES else 0,
            collate_fn=list,
            generator=torch.Generator(),  # the global random state stays as it is
        )
        for chunk in loader:
            yield from chunk


class _Decoded(Dataset[tuple[Pixels, Stamp]]):
    """The decoded images from a place on."""

    def __init__(self, cache: DecodedCache, first: int) -> None:
        self.cache, self.first = cache, first

    def __len__(self) -> int:
        return len(self.cache) - self.first

    def __getitem__(self, place: int) -> tuple[Pixels, Stamp]:
        image = self.cache.image(self.first + place)
        stamp = image.stamp  # before the image: a change while it is read is then seen
        return self.cache.decode(image), stamp


def reduced_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Width and height of an image whose shorter side is at most `short_side`, and whose sides keep their ratio."""
    shorter = min(width, height)
    if short_side is None or shorter <= short_side:
        return width, height
    return max(short_side, round(width * short_side / shorter)), max(short_side, round(height * short_side / shorter))


def spaced(count: int, most: int) -> range:
    """At most `most` places among `count`, evenly spaced."""
    return range(0, count, max(1, -(-count // most)))


def gigabytes(count: int) -> str:
    """A number of bytes in words: `1.3 GB`, `12 MB`."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _default_folder(spec: DataSpec, short_side: int | None) -> Path:
    """The same folder for all tasks that read the same images alike."""
    root = os.path.realpath(spec.root) if spec.root else ""
    kept = spec.model_dump(include={"name", "train_split", "validation_split", "test_split", "class_folder", "options"})
    kept |= {"root": root, "short_side": short_side, "exif": spec.exif_orientation, "without": sorted(spec.skip_files)}
    key = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / "decoded" / key


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine writes the folder. The system releases the lock of a killed process."""
    fcntl = fcntl_module()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") if fcntl else nullcontext() as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(images: int, console: Console | None) -> Iterator[Any]:
    if console is None or not console.is_terminal:
        yield lambda: None
        return
    # Training on a machine with torch and timm alone shows no progress.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("decoding images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("decode", total=images)
        yield lambda: progress.advance(task)
