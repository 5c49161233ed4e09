"""A lease: being the only driver of a sweep on storage whose files cannot be locked.

Each driver that takes the lease creates the next of the files `driver/000001.json`, `driver/000002.json`, ... exclusively; the
last file is that of the driver. A file is written again by its own driver only, so a driver that was suspended and comes back
can neither overwrite the note of the one after it nor overlook it. Object stores create exclusively by conditional writes
(S3: `If-None-Match: *`), folders by linking a complete file to its name.

No two clocks are compared. A note of a process on this host tells whether that process still runs. Any other note is watched:
a driver that lives renews it, and one that has not renewed it for `dead_after_seconds` is dead. A driver that cannot renew its
note stops before that, after `lost_after_seconds`.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from explorer.errors import InvalidInput
from explorer.storage import Storage

FOLDER = "driver"
"""Folder of the drivers' notes in a sweep's folder."""
POLL_SECONDS = 1.0
"""Longest time between two looks at a note that is watched."""


PATIENCE_SECONDS = 10.0
"""How long one reading or writing of a note is tried again while the storage fails; short against the times of a lease."""


@dataclass(frozen=True, kw_only=True)
class LeaseTiming:
    """Times of a lease."""

    renew_seconds: float = 15.0
    """The driver's note is renewed this often."""
    retry_seconds: float = 3.0
    """Time until a renewal that failed is tried again."""
    lost_after_seconds: float = 90.0
    """A driver that has not renewed its note for this long stops."""
    dead_after_seconds: float = 120.0
    """A note that has not changed for this long while it was watched is that of a dead driver."""
    settle_seconds: float = 2.0
    """Time between creating a note and seeing that no other driver has one: some file systems create nothing exclusively."""


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """What a driver writes about itself."""

    driver: str
    """Host and process, for messages."""
    host: str
    """What tells hosts, and containers on one host, apart. Process ids mean the same where it is the same."""
    pid: int
    process_started: str | None
    """When the process started, in the clock ticks of its host; process ids are used again."""
    token: str
    """A random token of this driver."""
    renewals: int = 0
    """Number of times that the note was renewed."""
    released: bool = False
    """True when the driver has ended."""

    @classmethod
    def of_this_process(cls) -> LockHolder:
        """A note with a new token."""
        pid = os.getpid()
        driver = f"{socket.gethostname()}:{pid}"
        return cls(driver=driver, host=_host(), pid=pid, process_started=_process_started(pid), token=uuid.uuid4().hex)

    @classmethod
    def parse(cls, content: bytes) -> LockHolder | None:
        """The note in a file; `None` if it is damaged."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def dump(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self)).encode()

    @property
    def runs(self) -> bool | None:
        """Whether the process still runs; `None` if that cannot be told from here."""
        if self.host != _host() or self.process_started is None:
            return None
        return _process_started(self.pid) == self.process_started


class DriverLock:
    """The lock as its driver sees it: a lease that must be renewed, or a file lock, which cannot be lost.

    Attributes:
        location: the sweep's folder.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._lost: InvalidInput | None = None
        self._held_until = float("inf")
        self._error = "the driver was suspended"

    @property
    def lost(self) -> InvalidInput | None:
        """Why this driver must stop; `None` while it holds the lock."""
        if self._lost is None and time.monotonic() > self._held_until:
            self.lose(f"its lock could not be renewed ({self._error})")
        return self._lost

    def lose(self, reason: str) -> None:
        """Note that this driver no longer holds the lock."""
        if self._lost is None:
            self._lost = InvalidInput("sweep", self.location, f"stopped: {reason}; a sweep has one driver at a time")

    def renewed(self, until: float) -> None:
        """The lease is valid until this time of `time.monotonic`."""
        self._held_until = until

    def not_renewed(self, error: Exception) -> None:
        """Keep the error, in case it lasts."""
        self._error = " ".join(str(error).split())


class Lease:
    """The lease of a sweep; see the module.

    Args:
        location: the sweep's folder.
        timing: its times.
        say: called with a line when the driver of an old note is watched.
    """

    def __init__(self, location: str, timing: LeaseTiming, say: Callable[[str], None]) -> None:
        self._location, self._timing, self._say = location, timing, say
        self._storage = Storage(location, patience_seconds=PATIENCE_SECONDS)
        self._note = LockHolder.of_this_process()
        self._number = 0
        self._ended = threading.Event()
        self.lock = DriverLock(location)

    def __enter__(self) -> DriverLock:
        try:
            self._take()
        except OSError as error:
            raise InvalidInput("storage", self._location, f"cannot be written: {error}") from None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self.lock

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # the note stays, and is that of a dead process
            if self.lock.lost is None and self._is_own(self._latest()):
                self._write(replace(self._note, released=True))

    def _take(self) -> None:
        number, content = self._latest()
        note = LockHolder.parse(content)
        if number and not (note and note.released):
            runs = note.runs if note else None
            if runs or (runs is None and not self._is_dead(number, content)):
                raise refused(self._location, note)
        self._number = number + 1
        sent = time.monotonic()
        with suppress(FileExistsError):  # another driver was faster, or the first answer of the storage was lost
            self._storage.create(self._name, self._note.dump())
        time.sleep(self._timing.settle_seconds)
        latest = self._latest()
        if not self._is_own(latest):
            raise refused(self._location, LockHolder.parse(latest[1]))
        self.lock.renewed(sent + self._timing.lost_after_seconds)
        for older in self._numbers():
            if older < self._number:
                self._storage.remove(_name(older))

    def _is_dead(self, number: int, content: bytes) -> bool:
        """Watch a note until it changes, or its driver must be dead."""
        note, patience = LockHolder.parse(content), self._timing.dead_after_seconds
        driver = note.driver if note else "Another process"
        self._say(f"{driver} was running this sweep: waiting up to {patience:g} s for a sign of it")
        started = time.monotonic()
        while time.monotonic() - started <= patience:
            time.sleep(min(POLL_SECONDS, patience / 10))
            now = self._latest()
            if now != (number, content):
                latest = LockHolder.parse(now[1])
                return now[0] == number and latest is not None and latest.released
        return True

    def _keep(self) -> None:
        """Renew the note until the end, or until the lock is lost."""
        pause = self._timing.renew_seconds
        while not self._ended.wait(pause) and self.lock.lost is None:
            started = time.monotonic()
            try:
                number, content = self._latest()
                if number and not self._is_own((number, content)):
                    note = LockHolder.parse(content)
                    self.lock.lose(f"{note.driver if note else 'another process'} has taken over")
                    return
                self._note = replace(self._note, renewals=self._note.renewals + 1)
                self._write(self._note)
                self.lock.renewed(started + self._timing.lost_after_seconds)
                pause = self._timing.renew_seconds
            except OSError as error:
                self.lock.not_renewed(error)
                pause = self._timing.retry_seconds

    @property
    def _name(self) -> str:
        return _name(self._number)

    def _numbers(self) -> list[int]:
        names = (entry.name for entry in self._storage.entries(FOLDER))
        return [int(name.removesuffix(".json")) for name in names if re.fullmatch(r"\d{6,}\.json", name)]

    def _latest(self) -> tuple[int, bytes]:
        """Number and content of the last note; number 0 if there is none."""
        while True:
            number = max(self._numbers(), default=0)
            if not number:
                return 0, b""
            with suppress(FileNotFoundError):  # removed meanwhile, because there is a later one
                return number, self._storage.read(_name(number))

    def _write(self, note: LockHolder) -> None:
        self._storage.write(self._name, note.dump())

    def _is_own(self, latest: tuple[int, bytes]) -> bool:
        note = LockHolder.parse(latest[1])
        return latest[0] == self._number and note is not None and note.token == self._note.token


def refused(location: str, note: LockHolder | None) -> InvalidInput:
    """The error for a second driver."""
    driver = note.driver if note else "another process"
    return InvalidInput("sweep", location, f"is being run by {driver}; a sweep has one driver at a time")


def _name(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _host() -> str:
    """Where a process id means the same: host name, boot, and namespace of process ids, which containers have their own of."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _process_started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; `None` if it does not run or the system does not say."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else fields[18]  # dead processes stay until their parents look
