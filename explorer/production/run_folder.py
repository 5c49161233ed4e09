"""The folder of a production run: the names of its files, whose folder it is, and how much room it has."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.filesize import decimal
from torch import nn

from explorer.errors import InvalidInput
from explorer.file_lock import FileLockedError, locked_file
from explorer.files import refused_if_unwritable
from explorer.production.event_file import EVENT_FILES
from explorer.production.loggers import METRICS, RUN_KEY, new_run_key, run_key
from explorer.production.model_folder import MODEL
from explorer.production.result import RESULT, RunResult
from explorer.production.run_status import PROGRESS
from explorer.spec.inventory import Inventory
from explorer.training.architecture import create_model
from explorer.training.checkpoint import EARLIER, own_checkpoint
from explorer.training.parameter_groups import build_optimizer
from explorer.training.task import Task

if TYPE_CHECKING:
    from explorer.production.run import Run

WEIGHTS, CHECKPOINT = "weights.safetensors", "checkpoint.pt"
LOCK = ".lock"
"""File that a training locks."""
PATIENCE_SECONDS = 10.0
"""Time in which a lock must be released: processes of the data loader keep it for some seconds after a training was killed."""
WRITTEN = (CHECKPOINT, WEIGHTS, MODEL, RESULT, METRICS, PROGRESS, EARLIER, EVENT_FILES)
"""Names, or patterns, of what a run writes or removes."""
SIDE = 16
"""Size of a layer whose optimizer state is measured."""
PLENTY = 2
"""Times the space that a run needs, from which on it need not be mentioned."""


def check_folder(run: Run, data: Inventory, processes: int) -> dict[str, Any] | None:
    """Check that a run may write into its folder: it is new, or holds this run.

    Args:
        run: the run.
        data: what its data set contains.
        processes: number of processes that will train it.

    Returns:
        The content of the run's checkpoint, with tensors that are left in the file; `None` if there is no checkpoint.

    Raises:
        InvalidInput: when the folder is a file, has the checkpoint or the results of another run, or files of another program
            under the names that a run uses.
    """
    out, checkpoint = run.out, run.out / CHECKPOINT
    if out.exists() and not out.is_dir():
        raise InvalidInput("out", str(out), "is a file, and must be a folder, which need not exist")
    if checkpoint.exists():
        content = own_checkpoint(checkpoint, run.task, data, run.plan, run.seed, processes, mmap=True)
        if (out / RESULT).exists():
            RunResult.load(out)  # or it is somebody else's
        return content
    written = [path.name for name in WRITTEN for path in sorted(out.glob(name))]
    if written and not (out / RUN_KEY).is_file():
        reason = f"has a {written[0]} that this command did not write; nothing is overwritten: choose another folder"
        raise InvalidInput("out", str(out), reason)
    if RESULT in written:
        result = RunResult.load(out)
        reason = (
            f"has the results of a finished run (budget {result.budget}, seed {result.seed}), whose checkpoint was removed; "
            f"choose another folder, or remove {RESULT} to replace them"
        )
        raise InvalidInput("out", str(out), reason)
    return None


def prepare_folder(out: Path) -> None:
    """Give the folder the key of a run. Without a checkpoint, metrics and key in it belong to another run."""
    with refused_if_unwritable("out", out):
        if (out / CHECKPOINT).exists():
            run_key(out)
        else:
            (out / METRICS).unlink(missing_ok=True)
            new_run_key(out)


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Be the only training of this folder, which is created, as far as its file system keeps locks.

    Raises:
        InvalidInput: when the folder cannot be written, or another process trains into it.
    """
    started = time.monotonic()
    while True:
        try:
            with refused_if_unwritable("out", out):
                out.mkdir(parents=True, exist_ok=True)
                lock = locked_file(out / LOCK, f"{socket.gethostname()}:{os.getpid()}")
            break
        except FileLockedError as error:
            if time.monotonic() - started > PATIENCE_SECONDS:
                reason = f"another training ({error.content}) writes into it; wait for its end, or choose another folder"
                raise InvalidInput("out", str(out), reason) from None
            time.sleep(PATIENCE_SECONDS / 20)
    with lock or nullcontext():
        yield


def space_line(run: Run, task: Task) -> str | None:
    """What a run will write, and how much room there is: a line where earlier checkpoints are kept, or where room is scarce.

    Args:
        run: the run.
        task: its task.

    Raises:
        InvalidInput: when there is no room for a single checkpoint.
    """
    checkpoint, weights = _sizes(task)
    folder = run.out.resolve()
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    # A checkpoint is written beside the one that it replaces; at the end come the weights, twice.
    needed = (run.keep_checkpoints + 2) * checkpoint + 2 * weights
    each = f"a checkpoint takes {decimal(checkpoint)}"
    if free < checkpoint and not (run.out / RESULT).exists():
        raise InvalidInput("out", str(run.out), f"has too little room: {each}, and {decimal(free)} are free")
    if not run.keep_checkpoints and free >= PLENTY * needed:
        return None
    scarce = "" if free >= needed else ": TOO LITTLE; what cannot be written is tried again, and the last checkpoint stays"
    return f"disk: {each}, the run up to {decimal(needed)}; {decimal(free)} are free{scarce}"


def _sizes(task: Task) -> tuple[int, int]:
    """Bytes of a checkpoint, and of the weights."""
    with torch.device("meta"):
        model = create_model(task.spec.model, task.model_arguments())
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    recipe = task.spec.recipe.model_copy(update={"layer_decay": None})
    layer = nn.Linear(SIDE, SIDE)
    optimizer = build_optimizer(recipe, layer)
    layer(torch.ones(1, SIDE)).sum().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    per_weight = sum(value.numel() for value in states if value.ndim) / sum(each.numel() for each in layer.parameters())
    return round(weights * (1 + per_weight + (recipe.ema_decay is not None))), weights
