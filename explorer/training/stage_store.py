"""A store of training states at segment boundaries, from which other trials can start.

Two runs with equal task, seed and leading segments are the same run so far (stage trees: Shin et al., "Hippo: Sharing
Computations in Hyper-Parameter Optimization", PVLDB 15(5), 2022). The key of a state is a hash of everything that training
depends on, including the learning rate of each step, so a state is never used where it does not belong. On the CPU a run that
starts from the store ends in the same bits as one that does not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import timm
import torch

from explorer import training_key
from explorer.plan import Plan, Segment
from explorer.spec.task_identity import described_task
from explorer.storage import Storage
from explorer.training.distributed import Processes
from explorer.training.task import Task

Content = dict[str, Any]
MAX_WRITE_OVERHEAD = 0.05
"""Writing a state may take this fraction of the training time since the last one was written; until then none is written, but
for that at the end of the trunk that larger budgets share."""
PATIENCE_SECONDS = 5.0
"""How long reading or writing a state is tried again while the storage fails."""
MAX_REFUSED = 3
"""Number of states in a row that the storage may refuse; then no more are written."""
_DIGEST = hashlib.sha256().digest_size


class StageStore:
    """A folder of states, one file each: the SHA-256 of the rest of the file, then the output of `torch.save`.

    Args:
        location: path or URI, shared by all Ray workers.
        max_bytes: when the folder is larger, the least recently used states are removed; in an object store, the oldest ones.

    Raises:
        InvalidInput: when the URI's file system is unknown or its package is missing.
    """

    def __init__(self, location: str, max_bytes: int) -> None:
        # A state that cannot be read or written now is trained again or left out; a trial does not wait for it.
        self._storage = Storage(location, patience_seconds=PATIENCE_SECONDS)
        self._max_bytes = max_bytes
        self._last_write_seconds = 0.0
        self._last_written = time.perf_counter()
        self._refused = 0

    def longest(self, keys: Sequence[str]) -> tuple[int, Content] | None:
        """The state after the largest number of segments.

        Args:
            keys: keys of the states after one segment, two, ...; as `prefix_keys` returns.

        Returns:
            The number of finished segments, and the state that `offer` received there; `None` if the store has no such state.
        """
        for number in range(len(keys), 0, -1):
            content = self.state(keys[number - 1])
            if content is not None:
                return number, content
        return None

    def longest_of_all(self, keys: Sequence[str], processes: Processes) -> tuple[int, Content] | None:
        """As `longest`, for processes that train together: the main process chooses the state, and each of them reads it.

        Every process has to call this. `None` if one of them cannot read it.
        """
        found = self.longest(keys) if processes.is_main else None
        number = processes.broadcast(found[0] if found else 0)
        if not processes.is_main and number:
            state = self.state(keys[number - 1])
            found = (number, state) if state is not None else None
        return found if all(processes.all_gather(found is not None)) else None

    def state(self, key: str) -> Content | None:
        """The state that `offer` received under a key; `None` if the store does not have it, or it is damaged."""
        name = f"{key}.pt"
        try:
            data = self._storage.read(name)
            if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
                self._storage.remove(name)
                return None
            content = torch.load(io.BytesIO(data[_DIGEST:]), map_location="cpu", weights_only=True)
            if self._storage.is_local:
                os.utime(self._storage.folder / name)  # recently used states are kept
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError):
            return None  # lost or evicted in the meantime: the segments are trained again
        return content if isinstance(content, dict) else None

    def wants(self, at_any_cost: bool = False) -> bool:
        """Whether a state may be written now; see `MAX_WRITE_OVERHEAD`.

        Args:
            at_any_cost: for the state from which larger budgets start: it is written however long that takes.
        """
        training_seconds = time.perf_counter() - self._last_written
        is_cheap = self._last_write_seconds <= MAX_WRITE_OVERHEAD * training_seconds
        return self._refused < MAX_REFUSED and (at_any_cost or is_cheap)

    def offer(self, key: str, content: Content, *, replace: bool = False) -> bool:
        """Publish a state atomically. Warn of the first one that the storage refuses; after `MAX_REFUSED` in a row, stop.

        Args:
            key: of the state.
            content: the state.
            replace: whether it replaces one that the store has under this key.

        Returns:
            Whether the store has a state under this key.
        """
        started = time.perf_counter()
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        try:
            if replace or not self._storage.exists(f"{key}.pt"):
                self._storage.write(f"{key}.pt", hashlib.sha256(data).digest() + data)
                self._evict()
            self._refused = 0
        except OSError as error:
            self._refused += 1
            if self._refused == 1:
                text = f"stage store {self._storage.location}: cannot be written; training continues without it: {error}"
                warnings.warn(text, stacklevel=2)
        self._last_written = time.perf_counter()
        self._last_write_seconds = self._last_written - started
        return self._refused == 0

    def remove(self, key: str) -> None:
        """Remove a state that nobody will need. One that the storage does not remove is evicted later."""
        with suppress(OSError):
            self._storage.remove(f"{key}.pt")

    def clear(self) -> None:
        """Remove every state. Warn if the storage refuses."""
        try:
            self._storage.clear()
        except OSError as error:
            warnings.warn(f"stage store {self._storage.location}: cannot be removed: {error}", stacklevel=2)

    def _evict(self) -> None:
        entries = [entry for entry in self._storage.entries() if entry.name.endswith(".pt")]
        total = sum(entry.size for entry in entries)
        for entry in sorted(entries, key=lambda entry: entry.modified):
            if total <= self._max_bytes:
                return
            total -= entry.size
            self._storage.remove(entry.name)


def prefix_keys(
    task: Task, segments: Sequence[Segment], seed: int, device: torch.device, amp: bool, processes: int = 1
) -> list[str]:
    """Keys of the states after one segment, two, ... and all but the last; see `explorer.training_key.prefix_keys`.

    A key depends on model, data, recipe, staging, seed, device, number of processes and versions, and on the segments. It does
    not depend on the length of full training, nor on the learning-rate schedule beyond these segments, nor on the number of
    processes that read images and where decoded images are kept; it does depend on the size of cached images. Data is
    identified by the listings of its splits, wherever it is; by its folder where a source has no listings.
    """
    return training_key.prefix_keys(_described(task, seed, device, amp, processes), segments)


def interrupted_key(task: Task, plan: Plan, seed: int, device: torch.device, amp: bool, processes: int = 1) -> str:
    """Key of the state in which the training of a whole plan was interrupted, wherever that was.

    It depends on all that `prefix_keys` does, and on the whole plan.
    """
    described = [_described(task, seed, device, amp, processes), "interrupted", plan.digest()]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _described(task: Task, seed: int, device: torch.device, amp: bool, processes: int) -> list[Any]:
    """What training depends on besides its segments."""
    spec = described_task(task.spec, task.data.inventory)
    where = [device.type, torch.get_num_threads() if device.type == "cpu" else torch.cuda.get_device_name(device), amp]
    if processes > 1:  # a single one has the keys of earlier releases
        where.append(processes)
    return [spec, seed, where, torch.__version__, timm.__version__]
