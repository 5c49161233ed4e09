"""Processes that train together: Ray actors in the bundles of a placement group, and torch's process group over them.

The process that starts them supervises: it passes on the main process's progress, and when one process fails it ends the others
and says which failure was the cause. A collective operation never returns once a process is gone, so they are not waited for.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import distributed
from torch.distributed import FileStore, Store, TCPStore  # type: ignore[attr-defined]

from explorer.errors import InvalidInput
from explorer.search.machines import wanted
from explorer.spec.task_file import Resources
from explorer.sweep.failures import FailureReason, reason_of
from explorer.sweep.placement import actor_options, bundles_of
from explorer.sweep.preemption import notice
from explorer.training.device import available_device, device_for, device_name
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.progress import Progress

T = TypeVar("T")

POLL_SECONDS = 1.0
"""Time after which a process that is still training reports its progress."""
GRACE_SECONDS = 5.0
"""Time that the other processes have to end after one has failed. Theirs may be the cause, which is often seen later."""
LOOPBACK = ("lo", "lo0")
"""Names of the loopback interface on Linux and macOS."""
CAUSES = ("memory", "place", "diverged", "preempted", "lost", "error")
"""Kinds of failures, the ones that explain the others first."""


class ProcessFailedError(RuntimeError):
    """One of the processes failed.

    Args:
        failed: why.
        node: id of the node where it ran.
        refused: the error of bad input, if it is one.
    """

    def __init__(self, failed: FailureReason, node: str | None, refused: InvalidInput | None = None) -> None:
        super().__init__(failed.reason)
        self.failed, self.node, self.refused = failed, node, refused


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


class WorkerGroup:
    """The processes that train together, which are kept from one call to the next, and replaced after a failure.

    Args:
        resources: of a trial; they say how many processes there are.
        bundles: has one bundle for each process.

    Attributes:
        device: name of the main process's device; `unknown` until it runs.
        failed_node: id of the node of the process whose failure ended the last call; `None` if unknown.
    """

    def __init__(self, resources: Resources, bundles: PlacementGroup) -> None:
        self._resources, self._bundles = resources, bundles
        self._workers: list[Any] = []
        self.device = "unknown"
        self.failed_node: str | None = None

    def run(
        self,
        function: Callable[..., T],
        *arguments: Any,
        on_segment: Callable[[Progress], None] | None = None,
        stop_requested: Callable[[], bool] | None = None,
    ) -> T:
        """Call a function in each process, in a process group of its own, and return what the main process returned.

        Args:
            function: called with `arguments`, `processes`, and with `on_segment` and `stop_requested` if these are given here.
            arguments: passed on.
            on_segment: called here with the progress of the main process, about once in `POLL_SECONDS`.
            stop_requested: asked here, besides the notice of each process, whether the processes are to stop.

        Raises:
            ProcessFailedError: when the function fails in a process: with the failure that is the cause of the others.
            RayError: when the cause is a process that ended without an error of its own.
        """
        self.failed_node = None
        try:
            self._start(function, arguments, reports=on_segment is not None, is_stoppable=stop_requested is not None)
            result: T = self._wait(on_segment, stop_requested)
        except BaseException as error:
            self.failed_node = error.node if isinstance(error, ProcessFailedError) else None
            self.stop()
            raise
        return result

    def stop(self) -> None:
        """End the processes."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _start(self, function: Callable[..., Any], arguments: tuple[Any, ...], **options: bool) -> None:
        count = self._resources.process_count
        if not self._workers:
            actor = ray.remote(max_restarts=0, max_task_retries=0)(TrainingProcess)
            each = actor_options(wanted(self._resources))
            self._workers = [
                actor.options(
                    **each,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(self._bundles, placement_group_bundle_index=rank),
                ).remote()
                for rank in range(count)
            ]
            self.device = ray.get(self._workers[0].device.remote(self._resources.process_gpus))
        rendezvous = None
        if count > 1:
            rendezvous = ray.get(self._workers[0].open_rendezvous.remote(count, not self._resources.spread))
        gpus = self._resources.process_gpus
        call = Call(function=function, arguments=arguments, rendezvous=rendezvous, gpus=gpus, **options)
        ray.get(
            [
                worker.start.remote(call, Processes(rank, count) if count > 1 else SINGLE_PROCESS)
                for rank, worker in enumerate(self._workers)
            ]
        )

    def _wait(self, on_segment: Callable[[Progress], None] | None, stop_requested: Callable[[], bool] | None) -> Any:
        asked = {worker.poll.remote(): rank for rank, worker in enumerate(self._workers)}
        ended: dict[int, Ended] = {}
        deadline = float("inf")
        while asked and time.monotonic() < deadline:
            ready, _ = ray.wait(list(asked), timeout=POLL_SECONDS)
            if stop_requested is not None and stop_requested():
                stop_requested = None
                for worker in self._workers:
                    worker.give_notice.remote()
            for reference in ready:
                rank = asked.pop(reference)
                try:
                    progress, end = ray.get(reference)
                except RayError as error:
                    progress, end = None, Ended(died=error)
                if progress is not None and on_segment is not None and rank == 0:
                    on_segment(progress)
                if end is None:
                    asked[self._workers[rank].poll.remote()] = rank
                    continue
                ended[rank] = end
                if end.failed or end.died:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        failed = [end for _, end in sorted(ended.items()) if end.failed or end.died]
        if not failed:
            return ended[0].result
        cause = cause_of(failed)
        if cause.died is not None:
            raise cause.died
        assert cause.failed is not None
        raise ProcessFailedError(cause.failed, cause.node, cause.refused)


def cause_of(failed: Sequence[Ended]) -> Ended:
    """The failure that explains those of the other processes, of which most only lost their connection."""
    return min(failed, key=lambda end: (end.is_consequence, CAUSES.index(end.failed.failure if end.failed else "lost")))


_kept: WorkerGroup | None = None


def own_worker_group(resources: Resources) -> WorkerGroup:
    """The processes of the trials that this process supervises: the same ones for each of its trials, in its bundles."""
    global _kept
    bundles = ray.util.get_current_placement_group()
    assert bundles is not None
    if _kept is None:
        _kept = WorkerGroup(resources, bundles)
    return _kept


@contextmanager
def worker_group(resources: Resources, excluded: Collection[str] = ()) -> Iterator[WorkerGroup]:
    """The processes of a trial outside of a trial, for the duration of the context.

    Args:
        resources: of a trial.
        excluded: ids of nodes where they are not to run.
    """
    bundles = placement_group(**bundles_of(resources, excluded))
    group = WorkerGroup(resources, bundles)
    try:
        ray.get(bundles.ready())
        yield group
    finally:
        group.stop()
        with suppress(RayError):
            remove_placement_group(bundles)
