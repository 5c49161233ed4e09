"""Checkpoints: everything that a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.differences import first_difference
from explorer.errors import InvalidInput
from explorer.files import atomic_writer
from explorer.plan import Plan
from explorer.spec.task import TaskSpec

VERSION = 4
MACHINE_FIELDS = ("data.root", "data.num_workers", "recipe.compile")
"""Fields that may differ between machines without making it another task."""


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
    with atomic_writer(path) as file:
        torch.save({"version": VERSION, **content}, file)


def load_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; never executes code from the file.

    Args:
        path: the file.
        mmap: leave the tensors in the file, for a look at the rest.

    Raises:
        InvalidInput: when the file is damaged, of another version, or holds anything but data.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch looks at no checksum
            for name in archive.namelist():
                if not mmap or name.endswith("data.pkl"):
                    _check(archive, name)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InvalidInput(str(path), "checkpoint", f"cannot be read: {error.strerror or error}") from None
    except Exception:  # each way of being damaged has its own, and torch's words advise to execute code
        reason = "cannot be read: it is damaged, or holds more than data; remove it to start anew"
        raise InvalidInput(str(path), "checkpoint", reason) from None
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        reason = f"is of version {version}" if isinstance(version, int) else "is not of this tool"
        raise InvalidInput(str(path), "checkpoint", f"{reason}; this release reads version {VERSION}: remove it to start anew")
    return dict(content)


def _check(archive: zipfile.ZipFile, name: str) -> None:
    """Read a part of the file to its end, where its checksum is."""
    with archive.open(name) as file:
        while file.read(1 << 20):
            pass


def identity(task: TaskSpec, plan: Plan, seed: int, processes: int) -> dict[str, Any]:
    """What a checkpoint says about its run."""
    rows = plan.stages()
    stages = {f"stage {row.stage + 1}": {**row.rates.model_dump(), "steps": row.steps} for row in rows}
    return {
        "run": {**task.model_dump(mode="json"), "seed": seed, "processes": processes},
        "plan": {
            "budget": str(plan.budget),
            "schedule": {"stages": len(rows), **stages},
            "segments": len(plan.segments),
            "digest": plan.digest(),
        },
    }


def own_checkpoint(path: Path, task: TaskSpec, plan: Plan, seed: int, processes: int, *, mmap: bool = False) -> dict[str, Any]:
    """Read a run's checkpoint; `mmap` as in `load_checkpoint`.

    Raises:
        InvalidInput: when it is damaged or belongs to another run, naming the first thing that differs.
    """
    content = load_checkpoint(path, mmap=mmap)
    own = identity(task, plan, seed, processes)
    difference = first_difference(content["run"], own["run"], MACHINE_FIELDS)
    if difference is None and content["plan"]["digest"] != own["plan"]["digest"]:
        difference = first_difference(content["plan"], own["plan"])
    if difference is not None:
        field, was, is_now = difference
        reason = f"the checkpoint belongs to a run with another one: {was!r}, now {is_now!r}; remove it to start anew"
        raise InvalidInput(str(path), field, reason)
    return content
