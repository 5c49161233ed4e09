"""Images in folders: `root/split/class/image`. Whatever is not read is counted, and nothing is guessed.

As in timm's reader, which this one replaces, images and classes are in natural order (`2.jpg` before `10.jpg`), which numbers
the classes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from explorer.data.decoding import image_formats, large_images_allowed
from explorer.data.image_files import ImageFiles, printable
from explorer.data.natural_order import natural_key
from explorer.data.root import require_root
from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec

NOT_IMAGES = frozenset(
    f".{ending}"
    for line in (
        "cfg conf csv db doc docx gz htm html ini json jsonl lock log m4a mat md md5 mov mp3 mp4 npy npz parquet pdf pickle",
        "pkl pt pth py rar sh sha256 tar tgz toml tsv txt wav xls xlsx xml yaml yml zip 7z",
    )
    for ending in line.split()
)
"""Endings of files that are not opened to find out whether they are images."""
RECOGNIZED_BY_CONTENT = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that begin with a signature, by which images with another ending are recognized."""
LEFT_BY_TOOLS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
"""Folders that archives, file servers and operating systems leave behind."""
LEFT_FILES = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db"))
HIDDEN = "hidden files, and files that other programs left"
OUTSIDE = "files outside the class folders"
SHOWN_CLASSES = 3
"""Classes that a message names."""

ClassNumbers = Mapping[str, int]
"""Labels by the name of their class."""


@dataclass(frozen=True)
class FoundImage:
    """An image file under the folder of a split."""

    folders: tuple[str, ...]
    """Names of the folders that it is in, from the one directly under the split."""
    path: str

    @property
    def sort_key(self) -> tuple[object, str]:
        """Natural order of the whole path."""
        return natural_key(self.path), self.path


def open_folder(spec: DataSpec) -> StreamedData:
    """Open `root/split/class/image` folders. A held-out split may lack classes; its labels are those of training.

    Raises:
        InvalidInput: when the folder of a split is missing, has no images, has class folders in class folders and
            `data.class_folder` does not say which of them counts, or has a class that the training images lack.
    """
    root = require_root(spec)
    train = FolderImages(root, spec.train_split, "data.train_split", spec.class_folder)
    numbers = {name: number for number, name in enumerate(train.classes)}

    def held_out(split: str | None, field: str) -> FolderImages | None:
        return None if split is None else FolderImages(root, split, field, spec.class_folder, numbers)

    validation = held_out(spec.validation_split, "data.validation_split")
    return StreamedData(spec, train, held_out(spec.test_split, "data.test_split"), validation)


class FolderImages(ImageFiles):
    """The images of a split.

    Args:
        root: folder of the data set.
        split: name of the folder of the split under it.
        setting: name of the setting that holds the split, for messages.
        class_folder: `DataSpec.class_folder`.
        class_numbers: labels of the classes; `None` numbers those that are found, in natural order.

    Raises:
        InvalidInput: see `open_folder`.
    """

    def __init__(
        self, root: Path, split: str, setting: str, class_folder: str | None, class_numbers: ClassNumbers | None = None
    ) -> None:
        folder = root / split
        if not split or not folder.is_dir() or folder.resolve() == root.resolve():
            raise InvalidInput(setting, split, f"there is no such folder in {root}")
        passed_over: Counter[str] = Counter()
        found = sorted(_images(folder, passed_over), key=lambda image: image.sort_key)
        if not found:
            counted = ", ".join(f"{count} {reason}" for reason, count in passed_over.items())
            raise InvalidInput(setting, split, f"has no images in class folders under {root}{counted and f': {counted}'}")
        names = _class_names(found, class_folder, setting, split)
        own_names = sorted(set(names), key=lambda name: (natural_key(name), name))
        if class_numbers is None:
            class_numbers = {name: number for number, name in enumerate(own_names)}
        elif unknown := [name for name in own_names if name not in class_numbers]:
            raise InvalidInput(setting, split, f"has classes that no training image has: {_some(unknown)}")
        self.classes = tuple(class_numbers)
        """Names of the classes in the order of their labels."""
        targets = [class_numbers[name] for name in names]
        relative = [printable(os.path.relpath(image.path, root)) for image in found]
        super().__init__((image.path for image in found), relative, targets)
        self.passed_over = dict(passed_over)
        """Number of files that are not images of a class, by reason."""
        self.remarks = _empty_folders(folder, {image.folders[0] for image in found})
        """Number of class folders without images, if there are any."""


def _images(folder: Path, passed_over: Counter[str]) -> Iterator[FoundImage]:
    """All image files in class folders. Links are followed, but not in a circle."""
    Image.init()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in image_formats()}
    pending: list[tuple[str, tuple[str, ...], frozenset[tuple[int, int]]]] = [(str(folder), (), _parents(folder))]
    while pending:
        path, folders, above = pending.pop()
        try:
            identity = _identity(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise InvalidInput("data.root", path, f"cannot be read: {error.strerror}") from None
        if identity in above:
            passed_over["links to a folder that contains them"] += 1
            continue
        for entry in entries:
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():  # a link may lead to itself
                if entry.name.startswith(".") or entry.name in LEFT_BY_TOOLS:
                    passed_over[HIDDEN] += sum(len(files) for _, _, files in os.walk(entry.path))
                else:
                    of_target = _parents(entry.path) if is_link else frozenset()
                    pending.append((entry.path, (*folders, entry.name), above | {identity} | of_target))
            elif reason := _passed_over(entry, endings):
                passed_over[reason] += 1
            elif not folders:
                passed_over[OUTSIDE] += 1
            else:
                yield FoundImage(folders, entry.path)


def _identity(folder: str | Path) -> tuple[int, int]:
    """What is equal for all paths of a folder."""
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def _parents(folder: str | Path) -> frozenset[tuple[int, int]]:
    """The folders that contain a folder, where links lead."""
    return frozenset(_identity(parent) for parent in Path(folder).resolve().parents)


def _passed_over(entry: os.DirEntry[str], endings: set[str]) -> str | None:
    """Why a file is not read; `None` if it is an image, by its ending or its content."""
    if entry.name.startswith(".") or entry.name.lower() in LEFT_FILES:
        return HIDDEN
    ending = os.path.splitext(entry.name)[1].lower()
    # A link that leads nowhere has no type; with the ending of an image it is an image that cannot be read.
    if not entry.is_symlink() and not entry.is_file():
        return "sockets, pipes and devices"
    if ending in endings:
        return None
    if ending not in NOT_IMAGES:
        try:
            with large_images_allowed(), Image.open(entry.path, formats=[f for f in RECOGNIZED_BY_CONTENT if f in Image.OPEN]):
                return None
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            pass
    return f"{printable(ending)}: not an image format" if ending else "without an ending, not an image"


def _class_names(found: list[FoundImage], class_folder: str | None, setting: str, split: str) -> list[str]:
    """Name of the class of each image."""
    nested = next((image for image in found if len(image.folders) > 1), None)
    top, leaf = ([printable(image.folders[place]) for image in found] for place in (0, -1))
    if nested and class_folder is None:
        tops, leaves = (sorted(set(names), key=natural_key) for names in (top, leaf))
        reason = (
            f"has class folders in class folders ({printable('/'.join(nested.folders))}): set data.class_folder to top "
            f"({len(tops)} classes: {_some(tops)}) or to leaf ({len(leaves)} classes: {_some(leaves)})"
        )
        raise InvalidInput(setting, split, reason)
    return leaf if class_folder == "leaf" else top


def _empty_folders(folder: Path, used: set[str]) -> dict[str, int]:
    """How many folders directly under the split have no image."""
    present = {
        entry.name
        for entry in os.scandir(folder)
        if os.path.isdir(entry.path) and not entry.name.startswith(".") and entry.name not in LEFT_BY_TOOLS
    }
    empty = sorted(present - used)
    return {f"class folders without images: {printable(_some(empty))}": len(empty)} if empty else {}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + more
