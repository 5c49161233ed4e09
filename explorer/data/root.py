"""The folder of a data set on disk."""

from __future__ import annotations

from pathlib import Path

from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec


def require_root(spec: DataSpec) -> Path:
    """The folder of a data set on disk.

    Raises:
        InvalidInput: when `spec.root` is missing or not a folder.
    """
    if spec.root is None:
        raise InvalidInput("data.root", None, f"this key is required for {spec.name!r}: the folder of the data set")
    if not Path(spec.root).is_dir():
        raise InvalidInput("data.root", spec.root, "there is no such folder")
    return Path(spec.root)
