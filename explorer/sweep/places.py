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
from explorer.search.machines import ACCELERATOR, count_places, wanted, wanted_text
from explorer.spec.task_file import Resources

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
    """Check that a node of the cluster has room for a trial. Tune would wait forever.

    Raises:
        InvalidInput: naming the resource that no node has enough of.
    """
    nodes = alive_nodes().values()
    for name, amount in wanted(resources).items():
        field = "resources.accelerator" if name.startswith(ACCELERATOR) else f"resources.{name.lower()}s"
        largest = max((node.get(name, 0) for node in nodes), default=0)
        if amount > largest and name.startswith(ACCELERATOR):
            kinds = sorted({each.removeprefix(ACCELERATOR) for node in nodes for each in node if each.startswith(ACCELERATOR)})
            raise InvalidInput(field, resources.accelerator, f"no node has such GPUs; there are {', '.join(kinds) or 'none'}")
        if amount > largest:
            hint = "where nodes are added on demand, use --wait-for-nodes"
            raise InvalidInput(field, amount, f"a trial needs more than any node has: at most {largest:g}; {hint}")
    if not places_on(resources):
        raise InvalidInput("resources", resources.model_dump(), "no single node has room for a trial")


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
    each = wanted_text(resources)
    say(f"waiting up to {seconds:g} s for a node with {each}; the cluster's autoscaler is asked for {trials} places")
    request_places(resources, trials)
    deadline = time.monotonic() + seconds
    while not places_on(resources):
        if time.monotonic() > deadline:
            request_places(resources, 0)
            nodes = len(alive_nodes())
            reason = f"no node with {each} joined in time ({nodes} without are there); see the autoscaler's log, or wait longer"
            raise InvalidInput("wait_for_nodes", seconds, reason)
        time.sleep(WAIT_SECONDS)


def request_places(resources: Resources, trials: int) -> None:
    """Ask the cluster's autoscaler for nodes on which this number of trials can run side by side; 0 withdraws the request.

    A cluster without an autoscaler takes no notice.
    """
    request_resources(bundles=[wanted(resources)] * min(trials, MAX_REQUESTED))


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
    """The resources of each node that is alive, by its id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
