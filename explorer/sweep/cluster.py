"""Ray's side of a sweep: start Ray or join a cluster, and count how many trials it can run side by side."""

from __future__ import annotations

import logging
import os
import socket

import ray

from explorer.errors import InvalidInput
from explorer.spec.task_file import Resources
from explorer.sweep.loopback import on_loopback

CONNECT_TIMEOUT_SECONDS = 10
"""Time in which a cluster must answer; Ray itself tries for minutes."""


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at an address. Does nothing where Ray runs already.

    Raises:
        InvalidInput: when no cluster answers.
    """
    if ray.is_initialized():
        return
    # Trials run in the driver's working directory, so that relative paths of data mean the same everywhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # It warns that the cluster is guarded by tokens, as intended.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if address is None:
        with on_loopback():
            ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        return
    host, _, port = address.rpartition(":")
    try:
        if "/" not in address and port.isdigit():
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
        with on_loopback():  # a cluster on this machine only is at 127.0.0.1 and nowhere else
            ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput("address", address, f"no Ray cluster answers: {error}") from None


def trials_at_once(resources: Resources) -> int:
    """Number of trials that the cluster can run side by side.

    Raises:
        InvalidInput: when no node has room for a trial; Tune would wait forever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = (("resources.cpus", "CPU", resources.cpus), ("resources.gpus", "GPU", resources.gpus))
    for field, name, amount in wanted:
        largest = max((node.get(name, 0) for node in nodes), default=0)
        if amount > largest:
            raise InvalidInput(field, amount, f"a trial needs more than any node has: at most {largest:g}")
    room = [min(int(node.get(name, 0) / amount) for _, name, amount in wanted if amount) for node in nodes]
    if not sum(room):
        raise InvalidInput("resources", resources.model_dump(), "no single node has room for a trial")
    return sum(room)
