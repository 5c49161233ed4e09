"""Ray on the loopback address. The one place that reaches into a private function of Ray.

`ray.init` passes every node address through `ray._private.services.resolve_ip_for_localhost`, which replaces 127.0.0.1 by
the machine's outward address. Ray's servers would then listen on every interface, and whoever joins would look for them there.
Ray has no setting against it, so the function is replaced while `ray.init` runs. With 127.0.0.1 as the node address, the
servers listen on loopback only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import services

FUNCTION = "resolve_ip_for_localhost"
"""Name of the function in `ray._private.services`. Present from Ray 2.50 to 2.60; a test fails when it is gone."""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let `ray.init` use 127.0.0.1 as it is given. Warn where this version of Ray cannot be kept on loopback."""
    original = getattr(services, FUNCTION, None)
    if original is None:
        warnings.warn("this version of Ray may listen on every network interface, not on loopback only", stacklevel=3)
        yield
        return
    setattr(services, FUNCTION, lambda host: host)
    try:
        yield
    finally:
        setattr(services, FUNCTION, original)
