"""One of the processes that train together: a Ray actor that joins torch's process group for each function that it calls."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from torch import distributed
from torch.distributed import FileStore, Store, TCPStore  # type: ignore[attr-defined]

from explorer.errors import InvalidInput
from explorer.sweep.failures import FailureReason, reason_of
from explorer.sweep.preemption import notice
from explorer.training.device import available_device, device_for, device_name
from explorer.training.distributed import Processes
from explorer.training.progress import Progress

POLL_SECONDS = 1.0
"""Time after which a process that is still training answers a poll."""
LOOPBACK = ("lo", "lo0")
"""Names of the loopback interface on Linux and macOS."""


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of a process group find one another."""

    file: str | None = None
    """A file on their common node. Nothing listens for it."""
    address: tuple[str, int] | None = None
    """Host and port of the main process, for processes on several nodes."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function that all processes call."""

    function: Callable[..., Any]
    """Called with `arguments` and the keyword argument `processes`, with `on_segment` if it `reports`, and with
    `stop_requested` if it `is_stoppable`."""
    arguments: tuple[Any, ...]
    reports: bool
    """Whether it reports the progress of a training."""
    is_stoppable: bool
    """Whether it stops a training when a notice of preemption comes."""
    rendezvous: Rendezvous | None
    """Where the processes meet; `None` for a single process."""
    gpus: float
    """Number of GPUs of each process."""


@dataclass(frozen=True)
class Ended:
    """How a function ended in a process."""

    result: Any = None
    failed: FailureReason | None = None
    node: str | None = None
    """Id of the node of a process that failed."""
    is_consequence: bool = False
    """Whether the failure is that of a connection to another process."""
    refused: InvalidInput | None = None
    died: RayError | None = None
    """Ray's error about a process that ended without an error of its own."""


class TrainingProcess:
    """One of the processes: an actor that calls functions in a thread, and is asked for their progress meanwhile."""

    def __init__(self) -> None:
        self._store: Store | None = None
        notice().heed_sigterm()

    def open_rendezvous(self, count: int, on_one_node: bool) -> Rendezvous:
        """Where this number of processes can meet. Called on the main process, whose next `start` it is for."""
        if on_one_node:
            return Rendezvous(file=str(Path(tempfile.mkdtemp(prefix="explorer-processes-"), "store")))
        host = ray.util.get_node_ip_address()
        self._store = store = TCPStore(host, 0, count, is_master=True, wait_for_workers=False)
        return Rendezvous(address=(host, store.port))

    def start(self, call: Call, processes: Processes) -> None:
        """Call a function in a thread.

        Args:
            call: what to call.
            processes: this process's place among those that call it.
        """
        self._ended: Ended | None = None
        self._progress: Progress | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(call, processes), daemon=True).start()

    def give_notice(self) -> None:
        """The node is about to be taken away, as the process that supervises has learned."""
        notice().tell()

    def device(self, gpus: float) -> str:
        """Name of the device that trains here, which the node may not be able to use."""
        return device_name(available_device(gpus))

    def poll(self) -> tuple[Progress | None, Ended | None]:
        """The last progress that was not polled yet, and how the function ended; after `POLL_SECONDS` at the latest."""
        self._done.wait(POLL_SECONDS)
        progress, self._progress = self._progress, None
        return progress, self._ended

    def _run(self, call: Call, processes: Processes) -> None:
        try:
            options: dict[str, Any] = {"on_segment": self._keep_progress} if call.reports else {}
            if call.is_stoppable:
                options["stop_requested"] = notice().came
            with self._process_group(call, processes), notice().watched() if call.is_stoppable else nullcontext():
                result = call.function(*call.arguments, processes=processes, **options)
            self._ended = Ended(result if processes.is_main else None)
        except BaseException as error:  # a process that ended in silence would be waited for
            self._ended = Ended(
                failed=reason_of(error),
                node=ray.get_runtime_context().get_node_id(),
                is_consequence=isinstance(error, distributed.DistError) or "gloo" in str(error),
                refused=error if isinstance(error, InvalidInput) else None,
            )
        finally:
            self._done.set()

    @contextmanager
    def _process_group(self, call: Call, processes: Processes) -> Iterator[None]:
        rendezvous = call.rendezvous
        if rendezvous is None:
            yield
            return
        try:
            if rendezvous.file is not None:
                store: Store = FileStore(rendezvous.file, processes.count)
                _keep_on_loopback()
            else:
                assert rendezvous.address is not None
                store = self._store or TCPStore(*rendezvous.address, processes.count, is_master=False)
            backend = "nccl" if device_for(call.gpus) == "cuda" else "gloo"
            distributed.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.count)
            yield
        finally:
            with suppress(Exception):  # it may not exist, or its connections be gone
                distributed.destroy_process_group()
            self._store = None
            if processes.is_main and rendezvous.file is not None:
                shutil.rmtree(Path(rendezvous.file).parent, ignore_errors=True)

    def _keep_progress(self, progress: Progress) -> None:
        self._progress = replace(progress, segments=list(progress.segments))


def _keep_on_loopback() -> None:
    """Let processes on one node listen on loopback only, unless the user has chosen an interface."""
    interface = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    for library in ("GLOO", "NCCL") if interface else ():
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", str(interface))
