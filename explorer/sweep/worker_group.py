"""Processes that train together, in the bundles of a placement group, supervised by the process that starts them.

It passes on the main process's progress, and when one process fails it ends the others and says which failure was the cause. A
collective operation may never return once a process is gone, so the others are not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from explorer.errors import InvalidInput
from explorer.search.machines import wanted
from explorer.spec.task_file import Resources
from explorer.sweep.failures import FailureReason
from explorer.sweep.placement import actor_options, bundles_of
from explorer.sweep.training_process import POLL_SECONDS, Call, Ended, TrainingProcess
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.progress import Progress

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""Time that the other processes have to end after one has failed. Theirs may be the cause, which is often seen later."""
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
