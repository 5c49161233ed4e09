"""Ray's side of a sweep: start Ray or join a cluster. Where Ray fails, one line says why and what to do."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from explorer.errors import InvalidInput
from explorer.sweep.loopback import on_loopback

CONNECT_TIMEOUT_SECONDS = 10
"""Time in which a cluster must answer; Ray itself tries for minutes."""
HTTP2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
"""An empty frame of settings, with which each side of HTTP/2 begins: length, type (4), flags and stream."""
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS
MAX_REASON_LENGTH = 300
"""Number of characters of Ray's message that are shown."""
LOCAL = "local"
"""Address that starts Ray on this machine, whatever the environment says."""
ADVICE = (
    ("AF_UNIX", "the folder for temporary files has too long a path for Ray's sockets; set RAY_TMPDIR=/tmp"),
    (
        "InvalidAuthToken",
        "the cluster refuses this machine's token; copy the cluster's ~/.ray/auth_token here, or set RAY_AUTH_TOKEN or "
        "RAY_AUTH_TOKEN_PATH, and RAY_AUTH_MODE=token",
    ),
    ("RAY_AUTH_TOKEN", "copy the cluster's ~/.ray/auth_token to this machine, or set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"),
    ("Version mismatch", "install the cluster's versions of Ray and Python on this machine"),
    ("No space left", "free some disk space, or set RAY_TMPDIR to a folder on another disk"),
    ("shared memory", "free /dev/shm, or give the container more of it (docker run --shm-size=8g)"),
    ("Permission denied", "set RAY_TMPDIR to a folder that you can write to"),
    (
        "Failed to connect to Ray cluster",
        "if that cluster is gone, delete ray_current_cluster in /tmp/ray, or give the address as host:port",
    ),
    ("imed out", "the machine may be overloaded; try again, and see the newest folder in /tmp/ray for Ray's logs"),
)
"""What to do about an error of Ray, by a part of its text."""
EXPECTED = ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_AIR_NEW_OUTPUT", "RAY_CLIENT_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness")
"""Variables of the environment that do no harm."""


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at an address. Does nothing where Ray runs already.

    Args:
        address: `host:port`, `auto` for the cluster that this machine belongs to, or `local` to start Ray here. `None` starts
            Ray here too, but is refused where the environment variable RAY_ADDRESS names a cluster.

    Raises:
        InvalidInput: when Ray cannot be started, no cluster answers, or it is unclear which one is meant.
    """
    if ray.is_initialized():
        return
    # Trials run in the driver's working directory, so that relative paths of data mean the same everywhere.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # It warns that the cluster is guarded by tokens, as intended.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if address is None and (named := os.environ.get("RAY_ADDRESS")):
        reason = f"RAY_ADDRESS={named} is set: give auto to join that cluster, or local to start Ray on this machine"
        raise InvalidInput("address", address, reason)
    if address in (None, LOCAL):
        _call(address, "Ray cannot be started here", _start)
        return
    assert address is not None
    joined, source = _cluster_of_this_machine() if address == "auto" else (address, "")
    if "/" not in joined and joined.rpartition(":")[2].isdigit():
        _check_port(joined, address, source)
    _call(address, "no Ray cluster answers", lambda: ray.init(address=address, log_to_driver=False))


def _cluster_of_this_machine() -> tuple[str, str]:
    """The address that `auto` stands for, and where it is from, for messages; `auto` if Ray has to find it.

    It is looked up as Ray does: the environment first, then the note of `ray start`, whose cluster may be gone.
    """
    if named := os.environ.get("RAY_ADDRESS"):
        return named, f" at {named}"
    linux_folder = os.environ.get("TMPDIR") if sys.platform.startswith("linux") else None
    note = Path(os.environ.get("RAY_TMPDIR") or linux_folder or "/tmp", "ray", "ray_current_cluster")
    with suppress(OSError):  # without a note, or with one that cannot be read, Ray says so itself
        if noted := note.read_text().strip():
            return noted, f" at {noted} (from {note}; if that cluster is gone, delete the file)"
    return "auto", ""


def _start() -> None:
    ray.init(address=LOCAL, _node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False, logging_level="WARNING")


def _check_port(joined: str, address: str, source: str) -> None:
    """Check that a server of Ray's kind (gRPC, over HTTP/2) listens at an address: Ray itself would try for minutes.

    Args:
        joined: host and port.
        address: the address as the user gave it, for messages.
        source: where `joined` is from, for messages.
    """
    host, _, port = joined.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(HTTP2_GREETING)
            answer = connection.recv(len(HTTP2_SETTINGS))
    except (OSError, OverflowError) as error:
        raise InvalidInput("address", address, f"no Ray cluster answers{source}: {error}") from None
    if answer[3:4] != HTTP2_SETTINGS[3:4]:
        reason = "what listens there is not Ray's head node; its port is the one that `ray start --head` prints, usually 6379"
        raise InvalidInput("address", address, f"no Ray cluster answers{source}: {reason}")


def _call(address: str | None, failed: str, init: Callable[[], object]) -> None:
    """Call `ray.init`, and turn any error into one line.

    Ray writes the reason of some errors to stderr only, again and again.
    """
    with _stderr_to_file() as read, on_loopback():  # a cluster on this machine only is at 127.0.0.1 and nowhere else
        error: BaseException | None = None
        try:
            init()
        except (Exception, SystemExit) as raised:
            ray.shutdown()
            error = raised
        said = read()
    if error is None:
        warned = [line for line in said.splitlines() if "WARNING" in line]
        print("\n".join(warned), end="\n" if warned else "", file=sys.stderr)
        return
    reason = (" ".join(str(error).split()) or type(error).__name__)[:MAX_REASON_LENGTH]
    advice = next((advice for part, advice in ADVICE if part in f"{reason} {said}"), None)
    leftovers = sorted(name for name in os.environ if name.startswith("RAY_") and name not in EXPECTED)
    if advice is None and leftovers and not isinstance(error, ValueError):
        advice = f"the environment sets {', '.join(leftovers)}; try without what is left over from elsewhere"
    raise InvalidInput("address", address, f"{failed}: {reason}{f'; {advice}' if advice else ''}")


@contextmanager
def _stderr_to_file() -> Iterator[Callable[[], str]]:
    """Let this process and those that it starts write their stderr to a file, which the function that is yielded reads."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def read() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)
