"""Ray's side of a sweep: start it or join it, and see how many trials it holds."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import services

from explorer.errors import InvalidInput
from explorer.spec.task_file import Resources


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at an address; nothing where it runs already.

    Raises:
        InvalidInput: when no cluster answers.
    """
    if ray.is_initialized():
        return
    # Trials run where the driver was started, so that relative paths of data mean the same everywhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # It warns that tokens guard the cluster, as they should.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if address is None:
        with _on_loopback():
            ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        return
    host, _, port = address.rpartition(":")
    try:
        if "/" not in address and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        with _on_loopback():  # a cluster of this machine alone is at 127.0.0.1 and nowhere else
            ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput("address", address, f"no Ray cluster answers: {error}") from None


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let `ray.init` take 127.0.0.1 as it is.

    Ray 2.60 rewrites it to the machine's outward address: servers then listen on every interface, and who joins looks
    for them there. With a node address of 127.0.0.1 they listen on loopback alone.
    """
    rewrite = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = rewrite


def trials_at_once(resources: Resources) -> int:
    """How many trials the cluster holds side by side.

    Raises:
        InvalidInput: when no node has room for one; Tune would wait for ever.
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
