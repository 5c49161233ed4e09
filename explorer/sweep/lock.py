"""One driver per sweep: a lock that a crash does not leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from explorer.errors import InvalidInput
from explorer.file_lock import FileLockedError, locked_file
from explorer.storage import Storage
from explorer.sweep.lease import DriverLock, Lease, LeaseTiming, LockHolder, refused

NAME = "driver.json"
"""File that is locked in a sweep's folder. It holds the driver's note."""
LOCAL_LOCKS = {"nolock", "local_lock=flock", "local_lock=all", "localflock"}
"""Options of NFS and Lustre with which a lock holds among the processes of one host only."""


@contextmanager
def only_driver(
    location: str, timing: LeaseTiming | None = None, say: Callable[[str], None] | None = None
) -> Iterator[DriverLock]:
    """Be the only driver of the sweep at `location`.

    In a folder whose files can be locked, the operating system keeps the lock; elsewhere there is a lease.

    Args:
        location: the sweep's folder.
        timing: times of the lease; default: those of `LeaseTiming`.
        say: called with a line while this waits to see whether the driver of a lease is dead.

    Raises:
        InvalidInput: when another driver runs the sweep, or the storage cannot be written.
    """
    storage = Storage(location, patience_seconds=0)
    locked = _locked_file(storage.folder / NAME, location) if storage.is_local else None
    if locked is None:
        with Lease(location, timing or LeaseTiming(), say or (lambda _: None)) as lock:
            yield lock
        return
    with locked:
        yield DriverLock(location)


def _locked_file(path: Path, location: str) -> TextIO | None:
    """The locked file, which is unlocked when it is closed; `None` where a lock would not hold."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _locks_hold_on_one_host_only(path.parent):
            return None
        return locked_file(path, LockHolder.of_this_process().dump().decode())
    except FileLockedError as error:
        raise refused(location, LockHolder.parse(error.content.encode())) from None
    except OSError as error:
        raise InvalidInput("storage", location, f"cannot be written: {error}") from None


def _locks_hold_on_one_host_only(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether a folder is mounted such that other hosts do not see its locks."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    options: dict[Path, set[str]] = {}
    for line in lines:
        mount, _, source = line.partition(" - ")
        fields, of_filesystem = mount.split(), source.split()
        if len(fields) > 5 and len(of_filesystem) > 2:
            place = Path(fields[4].encode().decode("unicode_escape"))  # spaces are written as \040
            options[place] = {*fields[5].split(","), *of_filesystem[2].split(",")}
    mounted = [place for place in (folder.resolve(), *folder.resolve().parents) if place in options]
    return bool(mounted and options[mounted[0]] & LOCAL_LOCKS)
