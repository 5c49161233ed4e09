"""Facts about images, remembered between runs in the user's cache folder until a file changes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from contextlib import suppress
from pathlib import Path

import PIL

from explorer.data.image_facts import ImageFacts, NumberedImage
from explorer.files import write_file
from explorer.spec.data import DataSpec

VERSION = 1
"""Number of the rules by which images are decoded and of the form of the file; another number starts afresh."""

Stamp = tuple[int, int]
MISSING: Stamp = (-1, -1)
"""Stamp of a file that is not there, such as that of a link that leads nowhere."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/vit-budget-explorer` or `~/.cache/vit-budget-explorer`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit-budget-explorer"


class RememberedFacts:
    """The facts about the images of a data set. A file that is missing or damaged is an empty one.

    Only images of data sets with `stamp(number)`, which gives size and time of change of a file, can be remembered.
    """

    def __init__(self, spec: DataSpec) -> None:
        root = os.path.realpath(spec.root) if spec.root else ""
        key = json.dumps([VERSION, PIL.__version__, spec.name, root, spec.exif_orientation])
        self._path = cache_folder() / "checks" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json.gz"
        self._facts = _read(self._path)
        self._changed = False

    def get(self, name: str, image: NumberedImage) -> ImageFacts | None:
        """The facts about an image if its file is unchanged."""
        stamp, facts = self._facts.get(name, (None, None))
        return facts if stamp is not None and stamp == stamp_of(image) else None

    def add(self, name: str, stamp: Stamp | None, facts: ImageFacts) -> None:
        """Remember the facts about an image; what a network or a disk could not read this time is not remembered.

        Args:
            name: name of the image.
            stamp: what `stamp_of` gave before the image was read; `None` if its data set does not tell.
            facts: what was found.
        """
        if stamp is not None and facts.digest:
            self._facts[name] = stamp, facts
            self._changed = True

    def save(self) -> None:
        """Write the file. Where it cannot be written, images are read again the next time."""
        if self._changed:
            content = json.dumps({name: [*stamp, *facts] for name, (stamp, facts) in self._facts.items()})
            with suppress(OSError):
                write_file(self._path, gzip.compress(content.encode(), compresslevel=1))
            self._changed = False


def stamp_of(image: NumberedImage) -> Stamp | None:
    """Size and time of change of the file of an image; `None` if its data set does not tell."""
    stamp = getattr(image.data, "stamp", None)
    return stamp(image.number) if stamp is not None else None


def _read(path: Path) -> dict[str, tuple[Stamp, ImageFacts]]:
    """What a file holds; entries of another form count as damage."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        return {str(name): _entry(*values) for name, values in content.items()}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zlib.error):
        return {}


def _entry(
    size: int, changed: int, mode: str, width: int, height: int, remarks: list[str], brightest: int, digest: str, error: str
) -> tuple[Stamp, ImageFacts]:
    facts = ImageFacts(str(mode), int(width), int(height), tuple(map(str, remarks)), int(brightest), str(digest), str(error))
    return (int(size), int(changed)), facts
