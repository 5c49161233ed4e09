"""The machines of a cluster, as the forecast of a sweep counts and measures them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from explorer.search.machines import Machines, measure_step_times, this_machine
from explorer.search.step_times import measure_table
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.sweep.cluster import LOCAL, start_ray
from explorer.sweep.places import alive_nodes, check_room, places_on
from explorer.sweep.step_times import check_one_kind_of_gpu, on_worker


def machines_at(address: str | None, space: SearchSpace) -> Machines:
    """The machines that a sweep would run on. Steps are timed where a trial would run.

    Args:
        address: address of a Ray cluster; `None` or `local` for this machine, for which Ray is not started.
        space: the search space.

    Raises:
        InvalidInput: when no cluster answers, or none of its nodes has room for a trial.
    """
    if address in (None, LOCAL):
        return this_machine(space)
    with _joined(address):
        check_room(space.resources)
        times = on_worker(space, (), measure_step_times, space)
        nodes = alive_nodes().values()
        return Machines(
            where=f"the cluster at {address}",
            nodes=len(nodes),
            cpus=sum(node.get("CPU", 0) for node in nodes),
            gpus=sum(node.get("GPU", 0) for node in nodes),
            places=places_on(space.resources),
            times=times,
        )


def step_times_at(address: str | None, space: SearchSpace) -> StepTimeTable:
    """The table of step times that a sweep in device-seconds would measure, measured where a trial would run.

    Args:
        address: as for `machines_at`; Ray is started on this machine for trials of several processes.
        space: the search space.

    Raises:
        InvalidInput: when no cluster answers, none of its nodes has room for a trial, or the step times scatter too much.
    """
    if address in (None, LOCAL) and space.resources.process_count == 1:
        return measure_table(space)
    with _joined(address):
        check_room(space.resources)
        check_one_kind_of_gpu(space.resources)
        return on_worker(space, (), measure_table, space)


@contextmanager
def _joined(address: str | None) -> Iterator[None]:
    """Join a cluster, and leave it afterwards unless this process belonged to it before."""
    joined_here = not ray.is_initialized()
    start_ray(address)
    try:
        yield
    finally:
        if joined_here:
            ray.shutdown()
