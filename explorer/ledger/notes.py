"""Small files beside the ledger that may be lost: what the driver says about itself. No result depends on them."""

from __future__ import annotations

import json
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from explorer.files import write_file


def write_note(location: str, name: str, content: dict[str, Any]) -> None:
    """Write a JSON file into a sweep's folder, so that a reader sees all of it or nothing.

    Raises:
        OSError: when the storage cannot be written.
    """
    fs, path = fsspec.core.url_to_fs(f"{location}/{name}")
    data = json.dumps(content, indent=1).encode()
    if isinstance(fs, LocalFileSystem):
        write_file(path, data)
    else:
        fs.pipe_file(path, data)  # object stores publish whole objects


def read_note(location: str, name: str) -> dict[str, Any] | None:
    """Read such a file; `None` if there is none, or it holds something else.

    Raises:
        OSError: when the storage cannot be read.
    """
    fs, path = fsspec.core.url_to_fs(f"{location}/{name}")
    fs.invalidate_cache()
    try:
        content = json.loads(fs.cat_file(path))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
