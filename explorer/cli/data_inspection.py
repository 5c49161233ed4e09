"""What `explorer init` finds out about a data set: where its splits are, and how large its images are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.references import is_reference
from explorer.spec.data import IN_MEMORY

TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "val", "valid", "dev")
TEST_NAMES = ("test", "testing")

ALLOWED = (
    "digits, fractals, an existing folder of images, folder:/path, torch/NAME:/path, wds:/path, hfds/NAME, or "
    "package.module:name"
)
"""What `--data` can name."""
IN_FILE = "the `data` section of a search space or task file (docs/howto/own-data.md)"

FRACTAL_SIZE = 32
"""Side in pixels of the fractal images that `init` proposes; fractals can be drawn at any size."""
SAMPLED_IMAGES = 16
"""Image files that are opened to find out how large the images of a folder are."""


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """A data set as the `data` section of a search space names it."""

    name: str
    """`digits`, `fractals`, `folder`, or another name that `data.name` accepts."""
    root: str | None = None
    """Absolute path of its folder; `None` for data sets that need none."""
    train_split: str = "train"
    validation_split: str | None = None
    """`None` sets a tenth of the training images aside."""
    test_split: str | None = "validation"
    """`None` sets another tenth aside."""
    side: int | None = None
    """Usual length in pixels of the shorter side of an image; `None` if it is not known."""

    @property
    def short_name(self) -> str:
        """A name for the data set: that of its folder, if it has one."""
        if self.root is None:
            return re.split(r"[/:]", self.name)[-1]
        return Path(self.root).name if self.train_split.lower() in TRAIN_NAMES else self.train_split

    @property
    def from_files(self) -> bool:
        """Whether images are decoded while the training runs, by processes of the data loader."""
        return self.name not in IN_MEMORY


def inspect_data(text: str) -> DataFiles:
    """Find a data set from the value of `--data`: `digits`, `folder:/path`, `/path`, or `torch/cifar10:/path`.

    Raises:
        InvalidInput: when there is no such folder, or it does not have the splits and classes that training needs.
    """
    name, _, path = text.partition(":")
    if name in IN_MEMORY:
        if path:
            raise InvalidInput("data", text, f"{name} needs no folder; leave out {':' + path!r}")
        return DataFiles(name=name, side=8 if name == "digits" else FRACTAL_SIZE)
    if not path and (name.startswith((".", "~", "/", "$")) or Path(name).is_dir()):
        name, path = "folder", name
    root = Path(expanded(path, "data")).resolve() if path else None
    if name == "folder":
        try:
            return _inspect_folder(text, root)
        except OSError as error:
            raise InvalidInput("data", text, f"{error.filename} cannot be read: {error.strerror}") from None
    if name.split("/")[0] in ("torch", "wds"):
        if root is None:
            raise InvalidInput("data", text, f"needs the folder that the data set is in: {name}:/path/to/folder")
        _check_exists(text, root)
        return DataFiles(name=name, root=str(root))
    if name.startswith("hfds/"):
        return DataFiles(name=name, root=str(root) if root else None)
    if is_reference(text):  # a source that lives in another package
        return DataFiles(name=text)
    if name == "table":
        raise InvalidInput("data", text, f"a table needs more than a folder: describe it in {IN_FILE}")
    raise InvalidInput("data", text, f"must be {ALLOWED}; other data sets, such as tables, are described in {IN_FILE}")


def _check_exists(text: str, root: Path) -> None:
    if not root.is_dir():
        raise InvalidInput("data", text, f"there is no such folder: {root}")


def _inspect_folder(text: str, root: Path | None) -> DataFiles:
    if root is None:
        raise InvalidInput("data", text, "needs the folder that the images are in: folder:/path/to/images")
    _check_exists(text, root)
    folders = {path.name.lower(): path.name for path in root.iterdir() if path.is_dir()}
    split_names = (TRAIN_NAMES, VALIDATION_NAMES, TEST_NAMES)
    train, validation, test = (next((folders[name] for name in names if name in folders), None) for names in split_names)
    if train is None:
        if not (validation or test) and _has_classes(root):
            # The folder is the only split of the one that contains it.
            side = _usual_side(root)
            return DataFiles(name="folder", root=str(root.parent), train_split=root.name, test_split=None, side=side)
        present = ", ".join(sorted(folders.values())[:5]) or "no subfolder"
        raise InvalidInput(
            "data",
            text,
            "must contain the subfolder train, and test or validation if there are any, each with one subfolder per class; "
            f"or subfolders of images alone, one per class; it has {present}",
        )
    for split in filter(None, (train, validation, test)):
        if not any(path.is_dir() for path in (root / split).iterdir()):
            raise InvalidInput("data", str(root / split), "must contain one subfolder of images per class")
    return DataFiles(
        name="folder",
        root=str(root),
        train_split=train,
        validation_split=validation if test else None,
        test_split=test or validation,
        side=_usual_side(root / train),
    )


def _has_classes(folder: Path) -> bool:
    """Whether a folder has two subfolders with images directly in them."""
    from PIL import Image

    endings = Image.registered_extensions()
    with_images = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = (path for path in with_images if any(file.suffix.lower() in endings for file in path.iterdir()))
    return len(list(islice(classes, 2))) == 2


def _usual_side(folder: Path) -> int | None:
    """The median of the shorter sides of some image files, a few of each class; `None` if none can be read."""
    from PIL import Image, UnidentifiedImageError

    from explorer.data.decoding import large_images_allowed

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    each = max(1, SAMPLED_IMAGES // len(classes))
    sides = []
    for path in (path for one in classes[:SAMPLED_IMAGES] for path in sorted(one.rglob("*.*"))[:each]):
        try:
            with large_images_allowed(), Image.open(path) as image:
                sides.append(min(image.size))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            continue  # not an image; opening the data set reports what training could not read
    return sorted(sides)[len(sides) // 2] if sides else None
