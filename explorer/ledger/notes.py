"""Small files beside the ledger that may be lost: what the driver says about itself. No result depends on them."""

from __future__ import annotations

import json
from typing import Any

from explorer.storage import Storage

PATIENCE_SECONDS = 5.0
"""How long storage that fails is tried again; the next note follows soon."""


def write_note(location: str, name: str, content: dict[str, Any]) -> None:
    """Write a JSON file into a sweep's folder, so that a reader sees all of it or nothing.

    Raises:
        OSError: when the storage cannot be written.
    """
    Storage(location, patience_seconds=PATIENCE_SECONDS).write(name, json.dumps(content, indent=1).encode())


def read_note(location: str, name: str) -> dict[str, Any] | None:
    """Read such a file; `None` if there is none, or it holds something else.

    Raises:
        OSError: when the storage cannot be read.
    """
    try:
        content = json.loads(Storage(location, patience_seconds=PATIENCE_SECONDS).read(name))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
