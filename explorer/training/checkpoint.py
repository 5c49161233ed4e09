"""Checkpoints: everything that a run needs to resume as if it had never stopped, written atomically."""

from __future__ import annotations

import random
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from explorer.differences import first_difference
from explorer.errors import InvalidInput, validated
from explorer.files import atomic_writer
from explorer.plan import Plan
from explorer.spec.changed_data import changed_data
from explorer.spec.inventory import Inventory
from explorer.spec.task import TaskSpec

VERSION = 4
EARLIER = "checkpoints"
"""Folder beside the checkpoint in which earlier ones are kept."""
FOREIGN = "was not written by this tool; choose another folder, or remove it to start from the beginning"
MACHINE_FIELDS = ("model.checkpoint", "data.root", "data.num_workers", "data.resident", "data.cache.folder", "recipe.compile")
"""Fields of a task that may differ between the machines on which one run trains."""


def random_state() -> dict[str, Any]:
    """State of every random number generator that training may use, as plain data and tensors."""
    numpy_state: Any = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [numpy_state[0], [int(x) for x in numpy_state[1]], *numpy_state[2:]],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all random number generators to a state that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    for number, of_device in enumerate(state["cuda"][: torch.cuda.device_count()]):  # there may have been more devices
        torch.cuda.set_rng_state(of_device, number)
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain data atomically: a reader sees the old file or the new one.

    Raises:
        OSError: when it cannot be written, as on a full disk; the old file stays.
    """
    try:
        with atomic_writer(path) as file:
            torch.save({"version": VERSION, **content}, file)
    except RuntimeError as error:  # torch's, when it closes an archive that could not be written
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def keep_checkpoint(path: Path, steps: int, count: int) -> None:
    """Keep a checkpoint that is about to be replaced, under the number of its steps, and remove the oldest ones.

    A hard link takes no time and no space of its own; where the file system has none, the file is copied.

    Args:
        path: the checkpoint.
        steps: number of steps after which it was written.
        count: number of earlier checkpoints to keep.

    Raises:
        OSError: when it cannot be kept.
    """
    folder = path.parent / EARLIER
    folder.mkdir(exist_ok=True)
    kept = folder / f"step-{steps:08d}.pt"
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(path)
    except OSError:
        temporary = kept.with_suffix(".tmp")
        try:
            shutil.copy2(path, temporary)
            temporary.replace(kept)
        finally:
            temporary.unlink(missing_ok=True)
    # By age: after a return to an earlier checkpoint, those of later steps are older.
    for old in sorted(folder.glob("step-*.pt"), key=lambda each: each.stat().st_mtime_ns)[:-count]:
        old.unlink()


def load_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a file that `save_checkpoint` wrote. No code from the file is executed.

    Args:
        path: the file.
        mmap: leave the tensors in the file; for reading everything else.

    Raises:
        InvalidInput: when the file is damaged, has another version, or holds anything but data.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not verify checksums
            for name in archive.namelist():
                if not mmap or name.endswith("data.pkl"):
                    _check(archive, name)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise InvalidInput(str(path), "checkpoint", f"cannot be read: {error.strerror or error}") from None
    except Exception:  # damaged files raise many types, and torch's messages advise executing code
        reason = (
            "cannot be read: it is damaged, or holds more than data, as those of other programs do; choose another folder, or "
            "remove it to start from the beginning"
        )
        raise InvalidInput(str(path), "checkpoint", reason) from None
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise InvalidInput(str(path), "checkpoint", FOREIGN)
    if version != VERSION:
        instruction = f"this release reads version {VERSION}; remove it to start from the beginning"
        raise InvalidInput(str(path), "checkpoint", f"has version {version}; {instruction}")
    return dict(content)


def _check(archive: zipfile.ZipFile, name: str) -> None:
    """Read a member of the archive to its end, where its checksum is verified."""
    with archive.open(name) as file:
        while file.read(1 << 20):
            pass


def identity(task: TaskSpec, data: Inventory, plan: Plan, seed: int, processes: int) -> dict[str, Any]:
    """What a checkpoint records about its run: task, seed, number of processes, classes and images, and plan."""
    stages = plan.stages()
    rates_and_steps = {
        f"stage {stage.stage + 1}": {
            **stage.rates.model_dump(),
            "steps": stage.steps,
            **({} if stage.batch_size == plan.batch_size else {"batch_size": stage.batch_size}),
            **({} if stage.augmentation.full else {"augmentation": stage.augmentation.model_dump()}),
        }
        for stage in stages
    }
    return {
        "run": {**task.model_dump(mode="json"), "seed": seed, "processes": processes},
        "inventory": data.model_dump(mode="json"),
        "plan": {
            "budget": str(plan.budget),
            "schedule": {"stages": len(stages), **rates_and_steps},
            "segments": len(plan.segments),
            "digest": plan.digest(),
        },
    }


def own_checkpoint(
    path: Path, task: TaskSpec, data: Inventory, plan: Plan, seed: int, processes: int, *, mmap: bool = False
) -> dict[str, Any]:
    """Read the checkpoint of a given run; `mmap` as in `load_checkpoint`.

    The number of processes may have changed, because the batch size is that of all of them together; but not if the steps of
    the plan were timed, which is done for one number. The data may be in another place, but must have the same classes and
    images: a class that was renamed has another label, and the finished model would be saved with the wrong names.

    Raises:
        InvalidInput: when it is damaged, or belongs to another run; it names what differs first.
    """
    content = load_checkpoint(path, mmap=mmap)
    if not all(isinstance(content.get(name), dict) for name in ("run", "plan")):
        raise InvalidInput(str(path), "checkpoint", FOREIGN)
    own = identity(task, data, plan, seed, processes)
    may_differ = (*MACHINE_FIELDS, "processes") if plan.seconds is None else MACHINE_FIELDS
    difference = first_difference(_with_defaults(content["run"]), own["run"], may_differ)
    if difference is None and content["plan"]["digest"] != own["plan"]["digest"]:
        difference = first_difference(content["plan"], own["plan"])
    if difference is not None:
        reason = (
            f"differs from the run that wrote this checkpoint: it was {difference.before!r} and is now {difference.after!r}; "
            "remove the checkpoint to start from the beginning"
        )
        raise InvalidInput(str(path), difference.field, reason)
    before = content.get("inventory")  # earlier releases did not note it
    if before is not None and (change := changed_data(validated(Inventory, before, str(path)), data)):
        reason = (
            f"the run that wrote this checkpoint was started with {change.before}; "
            "restore the data to resume, or remove the checkpoint to start from the beginning"
        )
        raise InvalidInput(f"{path}: {change.field}", change.now, reason)
    return content


def processes_before(content: dict[str, Any], processes: int) -> tuple[int, ...]:
    """Numbers of processes that trained the run of a checkpoint until it is resumed with another one.

    Args:
        content: of the checkpoint.
        processes: number of processes that resume the run.
    """
    before, last = tuple(content.get("earlier_processes", ())), content["run"]["processes"]
    return before if last == processes else (*before, last)


def _with_defaults(run: dict[str, Any]) -> dict[str, Any]:
    """A run that an earlier release recorded, with the settings that came later at their defaults."""
    try:
        sections = [field.alias or name for name, field in TaskSpec.model_fields.items()]
        task = TaskSpec.model_validate({name: value for name, value in run.items() if name in sections})
    except ValidationError:
        return run
    return {**run, **task.model_dump(mode="json")}
