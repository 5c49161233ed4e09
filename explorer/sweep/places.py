"""Places for trials: how many trials the cluster can run side by side, counted again while a sweep runs.

The searcher hands out as many trials as there are places, and one more, so that a place that becomes free is filled at once.
Tune itself would keep one pending trial: each would wait until the process of the one before it has started, and a second host
might never get one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from contextlib import suppress

import ray
from ray.autoscaler.sdk import request_resources

from explorer.errors import InvalidInput
from explorer.search.machines import ACCELERATOR, count_places, wanted, wanted_on_a_node, wanted_text
from explorer.spec.task_file import Resources
from explorer.sweep.preemption import draining_nodes

AHEAD = 1
"""Number of trials that are handed out without a place. Each is proposed without the results of those that run."""
COUNT_SECONDS = 5.0
"""Time after which the places are counted again."""
WAIT_SECONDS = 1.0
"""Time between two looks at a cluster that has no node yet."""
MAX_REQUESTED = 1000
"""Number of trials that an autoscaler is asked to make room for at most."""
MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
"""Environment variable of Tune: number of trials that wait for a place."""


def places_on(resources: Resources, excluded: Collection[str] = ()) -> int:
    """Number of trials that the cluster can run side by side.

    Args:
        resources: of a trial.
        excluded: ids of nodes that get no trials.
    """
    return count_places(resources, [node for node_id, node in alive_nodes().items() if node_id not in excluded])


def check_room(resources: Resources) -> None:
    """Check that a node of the cluster has room for a trial, or several nodes together if its processes may be on several.

    Tune would wait forever.

    Raises:
        InvalidInput: naming the resource that there is not enough of.
    """
    nodes, processes = alive_nodes().values(), resources.process_count
    for name, each in wanted(resources).items():
        of_nodes = [node.get(name, 0) for node in nodes]
        if name.startswith(ACCELERATOR):
            if not any(of_nodes):
                names = {other for node in nodes for other in node if other.startswith(ACCELERATOR)}
                kinds = ", ".join(sorted(kind.removeprefix(ACCELERATOR) for kind in names)) or "none"
                raise InvalidInput("resources.accelerator", resources.accelerator, f"no node has such GPUs; there are {kinds}")
            continue
        amount, largest = processes * each, max(of_nodes, default=0)
        there = sum(of_nodes) if resources.spread else largest
        if amount > there:
            setting = f"{name.lower()}s"
            reason = _shortage(resources, name, amount, there, sum(of_nodes))
            raise InvalidInput(f"resources.{setting}", getattr(resources, setting), reason)
    if not places_on(resources):
        where = "the nodes together have no" if resources.spread else "no single node has"
        raise InvalidInput("resources", resources.model_dump(), f"{where} room for a trial")


def _shortage(resources: Resources, name: str, amount: float, there: float, total: float) -> str:
    """That a trial needs a larger amount of a resource than there is in one place, and what to do."""
    hint = "where nodes are added on demand, use --wait-for-nodes"
    if resources.process_count == 1:
        return f"a trial needs more than any node has: at most {there:g}; {hint}"
    if not resources.spread and amount <= total:
        hint = f"resources.spread: true lets its processes train on several nodes; {hint}"
    have = "all nodes together have" if resources.spread else "any node has"
    needs = f"the {resources.process_count} processes of a trial need {amount:g} {name}s"
    return f"{needs}, more than {have}: at most {there:g}; {hint}"


def wait_for_room(resources: Resources, seconds: float, trials: int, say: Callable[[str], None]) -> None:
    """Wait until a node has room for a trial, and ask the cluster's autoscaler for nodes meanwhile.

    Args:
        resources: of a trial.
        seconds: how long to wait at most.
        trials: number of trials that could run side by side.
        say: called with a line for the user.

    Raises:
        InvalidInput: when no node has room in time.
    """
    if places_on(resources):
        return
    room = f"{'' if resources.process_count == 1 else 'room for '}{wanted_text(resources)}"
    nodes = f"nodes with {room}" if resources.spread else f"a node with {room}"
    say(f"waiting up to {seconds:g} s for {nodes}; the cluster's autoscaler is asked for {trials} places")
    request_places(resources, trials)
    deadline = time.monotonic() + seconds
    while not places_on(resources):
        if time.monotonic() > deadline:
            request_places(resources, 0)
            there = f"({len(alive_nodes())} without are there)"
            reason = f"no {nodes.removeprefix('a ')} joined in time {there}; see the autoscaler's log, or wait longer"
            raise InvalidInput("wait_for_nodes", seconds, reason)
        time.sleep(WAIT_SECONDS)


def request_places(resources: Resources, trials: int) -> None:
    """Ask the cluster's autoscaler for nodes on which this number of trials can run side by side; 0 withdraws the request.

    A cluster without an autoscaler takes no notice.
    """
    each = [wanted(resources)] * resources.process_count if resources.spread else [wanted_on_a_node(resources)]
    request_resources(bundles=each * min(trials, MAX_REQUESTED))


class Places:
    """The places of a sweep.

    Args:
        resources: of a trial.
        parallel_trials: number of trials that may run side by side; `None` for as many as the cluster can.
        excluded: ids of nodes that get no trials.
        scale_for: gives the number of trials that are left, for which the cluster's autoscaler is asked for nodes; `None` if it
            is not asked.

    Attributes:
        excluded: ids of nodes that get no trials; the driver adds those where trials fail.
    """

    def __init__(
        self,
        resources: Resources,
        parallel_trials: int | None = None,
        excluded: AbstractSet[str] = frozenset(),
        scale_for: Callable[[], int] | None = None,
    ) -> None:
        self._resources, self._parallel_trials = resources, parallel_trials
        self.excluded = set(excluded)
        self._scale_for = scale_for
        self._requested = 0
        self._counted = 0
        self._counted_at = float("-inf")

    @property
    def at_once(self) -> int:
        """Number of trials that run side by side, at least one."""
        now = time.monotonic()
        if now - self._counted_at > COUNT_SECONDS:
            self._counted_at = now
            with suppress(ray.exceptions.RayError):  # the count stays as it is while the head node is out of reach
                self._counted = places_on(self._resources, self.excluded)
                self._request()
        return max(1, min(self._counted, self._parallel_trials or self._counted))

    @property
    def handed_out(self) -> int:
        """Number of trials that may be handed out at the same time: those that run and those that wait for a place."""
        return min(self.at_once + AHEAD, self._parallel_trials or self.at_once + AHEAD)

    def _request(self) -> None:
        if self._scale_for is None:
            return
        wanted = min(self._scale_for(), self._parallel_trials or MAX_REQUESTED)
        if wanted != self._requested:
            request_places(self._resources, wanted)
            self._requested = wanted

    def __enter__(self) -> Places:
        """Let Tune keep as many pending trials as are handed out."""
        self._before = os.environ.get(MAX_PENDING)
        os.environ[MAX_PENDING] = str(MAX_REQUESTED)
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop(MAX_PENDING)
        if self._before is not None:
            os.environ[MAX_PENDING] = self._before
        if self._requested:
            with suppress(ray.exceptions.RayError):
                request_places(self._resources, 0)


def alive_nodes() -> dict[str, dict[str, float]]:
    """The resources of each node that is alive and stays, by its id."""
    leaving = draining_nodes()
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving}
