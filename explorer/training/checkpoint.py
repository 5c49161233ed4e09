"""Checkpoints: everything that a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.errors import InvalidInput

VERSION = 2


def random_state() -> dict[str, Any]:
    """State of every random generator that training may use, as plain data and tensors."""
    numpy_state: Any = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [numpy_state[0], [int(x) for x in numpy_state[1]], *numpy_state[2:]],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data; a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        torch.save({"version": VERSION, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; never executes code from the file.

    Raises:
        InvalidInput: when the file is damaged, of another version, or holds anything but data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(str(path), "checkpoint", f"cannot be read: {reason}") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InvalidInput(str(path), "checkpoint", f"is not a version {VERSION} checkpoint of this tool")
    return content
