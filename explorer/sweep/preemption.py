"""Notice that a node is about to be taken away, as spot nodes are: Ray drains it, or the process of a trial gets SIGTERM.

The one place that asks Ray which nodes it drains; Ray has no public function for it. Ray drains a node at the request of an
autoscaler or a cloud's notice, and when `ray start --block` gets SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import ray
from ray._private import state

FUNCTION = "get_draining_nodes"
"""Name of the method of `ray._private.state.state`, which gives the ids of the nodes. A test fails when it is gone."""
CHECK_SECONDS = 2.0
"""Shortest time between two questions to Ray."""


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray drains: they get no more work, and will be gone soon. Warn where Ray cannot tell."""
    ask: Callable[[], dict[str, int]] | None = getattr(state.state, FUNCTION, None)
    if ask is None:
        warnings.warn("this version of Ray does not say which nodes it drains: they are lost without a notice", stacklevel=2)
        return set()
    return set(ask())


class PreemptionNotice:
    """Whether the node of this process is about to be taken away."""

    def __init__(self) -> None:
        self._watched = self._told = self._signalled = False
        self._checked = float("-inf")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within this context a training asks for the notice: SIGTERM is noted, and does not end the process."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    def tell(self) -> None:
        """Give the notice to the training of this process."""
        self._told = True

    def came(self) -> bool:
        """Whether the notice was given. Asks Ray at most every `CHECK_SECONDS`."""
        now = time.monotonic()
        if not self._told and now - self._checked >= CHECK_SECONDS:
            self._checked = now
            try:
                if ray.get_runtime_context().get_node_id() in draining_nodes():
                    self._told = True
            except Exception as error:  # a cluster that does not answer now is no reason to end a training
                warnings.warn(f"Ray does not say whether it drains this node: {error}", stacklevel=2)
        return self._told

    def heed_sigterm(self) -> None:
        """Take SIGTERM as the notice while a training is watched; otherwise, and for the second time, it ends the process.

        To be called in the main thread. Ray calls functions of trials in other threads, which get no signals.
        """
        before = signal.getsignal(signal.SIGTERM)

        def on_sigterm(number: int, frame: FrameType | None) -> None:
            if self._watched and not self._signalled:
                self._signalled = self._told = True
            elif callable(before):
                before(number, frame)
            else:
                sys.exit(128 + number)

        signal.signal(signal.SIGTERM, on_sigterm)


_NOTICE = PreemptionNotice()


def notice() -> PreemptionNotice:
    """The notice of this process. A function, because Ray sends a copy of an object with the functions that refer to it."""
    return _NOTICE
