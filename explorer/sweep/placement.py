"""Where Ray runs a trial: the resources that it reserves, and the hosts that it avoids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune

from explorer.search.machines import ACCELERATOR, wanted
from explorer.spec.task_file import Resources

AVOIDED = "avoided_nodes"
"""Key of a trial's config: ids of the nodes where it is not to run."""
NODE_LABEL = "ray.io/node-id"
"""Label with which Ray marks each node."""


def placement(resources: Resources) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    """A function that gives the resources of a trial from its config.

    A process that Tune keeps for the next trial is used again only by trials that avoid the same nodes.
    """
    bundle = wanted(resources)

    def of_trial(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        avoided = config.get(AVOIDED)
        selector = {"bundle_label_selector": [{NODE_LABEL: f"!in({','.join(avoided)})"}]} if avoided else {}
        return tune.PlacementGroupFactory([bundle], **selector)

    return of_trial


def hosts_with_room(resources: Resources) -> dict[str, str]:
    """Names of the hosts whose resources suffice for a trial, used or not, by the id of their node."""
    amounts = wanted(resources)
    return {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and all(node["Resources"].get(name, 0) >= amount for name, amount in amounts.items())
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
