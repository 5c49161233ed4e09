"""The machines of a cluster, as the forecast of a sweep counts and measures them."""

from __future__ import annotations

import ray

from explorer.search.machines import Machines, measure_step_times, this_machine, wanted
from explorer.spec.search_space import SearchSpace
from explorer.sweep.cluster import LOCAL, start_ray
from explorer.sweep.places import alive_nodes, check_room, places_on


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
    joined_here = not ray.is_initialized()
    start_ray(address)
    try:
        check_room(space.resources)
        amounts = wanted(space.resources)
        measure = ray.remote(
            num_cpus=amounts["CPU"], num_gpus=amounts.get("GPU", 0), accelerator_type=space.resources.accelerator
        )(measure_step_times)
        times = ray.get(measure.remote(space))
        nodes = alive_nodes().values()
        return Machines(
            where=f"the cluster at {address}",
            nodes=len(nodes),
            cpus=sum(node.get("CPU", 0) for node in nodes),
            gpus=sum(node.get("GPU", 0) for node in nodes),
            places=places_on(space.resources),
            times=times,
        )
    finally:
        if joined_here:
            ray.shutdown()
