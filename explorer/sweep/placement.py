"""Where Ray runs a trial: the resources that it reserves, and the hosts that it avoids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import ray

from explorer.search.machines import ACCELERATOR, wanted, wanted_on_a_node
from explorer.spec.task_file import Resources
from explorer.sweep.preemption import draining_nodes

if TYPE_CHECKING:
    from ray import tune

AVOIDED = "avoided_nodes"
"""Key of a trial's config: ids of the nodes where it is not to run."""
NODE_LABEL = "ray.io/node-id"
"""Label with which Ray marks each node."""


def placement(resources: Resources) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    """A function that gives the resources of a trial from its config.

    A process that Tune keeps for the next trial is used again only by trials that avoid the same nodes. Where several processes
    train a trial, Tune's own needs no resources: it supervises them.
    """

    from ray import tune  # slow to import, and not needed by processes that train together

    def of_trial(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        arguments = bundles_of(resources, config.get(AVOIDED, ()))
        if resources.process_count > 1:
            arguments["bundles"].insert(0, {})
        return tune.PlacementGroupFactory(**arguments)

    return of_trial


def bundles_of(resources: Resources, avoided: Iterable[str] = ()) -> dict[str, Any]:
    """The bundles of a trial, one for each of its processes: arguments of Ray's `placement_group`.

    Args:
        resources: of a trial.
        avoided: ids of nodes where it is not to run.
    """
    processes = resources.process_count
    on_one_node = processes > 1 and not resources.spread
    arguments: dict[str, Any] = {
        "bundles": [wanted(resources)] * processes,
        "strategy": "STRICT_PACK" if on_one_node else "PACK",
    }
    if avoided := sorted(avoided):
        arguments["bundle_label_selector"] = [{NODE_LABEL: f"!in({','.join(avoided)})"}] * processes
    return arguments


def actor_options(amounts: Mapping[str, float]) -> dict[str, Any]:
    """Options of a Ray actor that takes these resources, by Ray's names."""
    others = {name: amount for name, amount in amounts.items() if name not in ("CPU", "GPU")}
    return {"num_cpus": amounts.get("CPU", 0), "num_gpus": amounts.get("GPU", 0), "resources": others}


def hosts_with_room(resources: Resources) -> dict[str, str]:
    """Names of the hosts that stay and whose resources suffice for a trial, used or not, by the id of their node.

    Where the processes of a trial may be on several nodes, hosts with room for one of them count.
    """
    amounts, leaving = wanted_on_a_node(resources), draining_nodes()
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"]
        and node["NodeID"] not in leaving
        and all(node["Resources"].get(name, 0) >= amount for name, amount in amounts.items())
    }


def kinds_of_gpu(resources: Resources) -> list[str]:
    """Ray's names of the kinds of GPU on the hosts whose resources suffice for a trial; empty for trials without a GPU."""
    if not resources.gpus:
        return []
    hosts = hosts_with_room(resources)
    nodes = [node["Resources"] for node in ray.nodes() if node["NodeID"] in hosts]
    return sorted({name.removeprefix(ACCELERATOR) for node in nodes for name in node if name.startswith(ACCELERATOR)})


def node_at(address: str | None) -> str | None:
    """Id of the node at an IP address; `None` if there is none, or several."""
    if address is None:
        return None
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == address]
    return nodes[0] if len(nodes) == 1 else None
