"""One driver per sweep: a lock that a crash does not leave behind."""

from __future__ import annotations

import importlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from explorer.errors import InvalidInput

NAME = "driver.json"
"""File of the driver's note in a sweep's folder."""


@dataclass(frozen=True, kw_only=True)
class LockTiming:
    """Times of the lock on storage whose files cannot be locked."""

    renew_seconds: float = 30.0
    """The driver's note is renewed this often."""
    retry_seconds: float = 5.0
    """Time until a renewal that failed is tried again."""
    dead_after_seconds: float = 120.0
    """A note that is older is that of a dead driver."""
    settle_seconds: float = 2.0
    """Time between writing a note and seeing that no other driver has written one too."""


class DriverLock:
    """The lock as its driver sees it.

    Attributes:
        lost: why this driver must stop; `None` while it holds the lock.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.lost: InvalidInput | None = None

    def lose(self, reason: str) -> None:
        """Note that this driver no longer holds the lock."""
        self.lost = InvalidInput("sweep", self._location, f"stopped: {reason}; a sweep has one driver at a time")


@contextmanager
def only_driver(location: str, timing: LockTiming = LockTiming()) -> Iterator[DriverLock]:
    """Be the only driver of the sweep at `location`.

    Where files can be locked, the operating system keeps the lock. On other storage the driver writes a note with a token of
    its own, checks after a pause that the note is still its own, and renews it. If another driver's note appears, or the note
    cannot be renewed and becomes too old, `DriverLock.lost` says so.

    Raises:
        InvalidInput: when another driver runs the sweep, or the storage cannot be written.
    """
    fs, path = fsspec.core.url_to_fs(f"{location}/{NAME}")
    if isinstance(fs, LocalFileSystem):
        with _locked_file(Path(path), location) as lock:
            yield lock
    else:
        with _RenewedNote(fs, path, location, timing).held() as lock:
            yield lock


@contextmanager
def _locked_file(path: Path, location: str) -> Iterator[DriverLock]:
    """A file locked by flock: the kernel unlocks it when the process ends, however it ends. NFS passes it to its server."""
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        allowed = "sweeps on local folders need file locks, which this platform lacks; use Linux, macOS or WSL"
        raise InvalidInput("storage", location, allowed) from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise InvalidInput("storage", location, f"cannot be written: {error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise _refused(location, file.read()) from None
        file.truncate(0)
        file.write(_note(token=""))
        file.flush()
        yield DriverLock(location)


class _RenewedNote:
    """A note on storage without file locks."""

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str, location: str, timing: LockTiming) -> None:
        self._fs, self._path, self._location, self._timing = fs, path, location, timing
        self._token = uuid.uuid4().hex
        self._lock = DriverLock(location)
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[DriverLock]:
        """Take the lock, keep it, and release it at the end."""
        self._take()
        thread = threading.Thread(target=self._keep, daemon=True)
        thread.start()
        try:
            yield self._lock
        finally:
            self._ended.set()
            thread.join()
            with suppress(Exception):  # the note grows old if it cannot be removed
                if self._is_own(self._read()):
                    self._fs.rm(self._path)

    def _take(self) -> None:
        """Write the note, unless there is one of a live driver.

        Where the file system can create a file exclusively, the first of several drivers wins. Everywhere, and where a dead
        driver's note is replaced, the last one wins, and the pause lets the others see that.
        """
        try:
            note = self._read()
            if note is not None and time.time() - _alive(note) < self._timing.dead_after_seconds:
                raise _refused(self._location, note)
            self._write(exclusively=note is None)
            time.sleep(self._timing.settle_seconds)
            note = self._read()
        except OSError as error:
            raise InvalidInput("storage", self._location, f"cannot be written: {error}") from None
        if not self._is_own(note):
            raise _refused(self._location, note or "")

    def _keep(self) -> None:
        """Renew the note until the end, or until the lock is lost."""
        renewed = time.monotonic()
        pause = self._timing.renew_seconds
        while not self._ended.wait(pause):
            try:
                note = self._read()
                if note is not None and not self._is_own(note):
                    self._lock.lose(f"{_driver(note)} has taken over")
                    return
                self._write()
                renewed, pause = time.monotonic(), self._timing.renew_seconds
            except Exception as error:  # file systems raise errors of their own
                pause = self._timing.retry_seconds
                if time.monotonic() - renewed > self._timing.dead_after_seconds:
                    self._lock.lose(f"its lock could not be renewed for {self._timing.dead_after_seconds:g} s ({error})")
                    return

    def _read(self) -> str | None:
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(self._path)).decode()
        except FileNotFoundError:
            return None

    def _write(self, exclusively: bool = False) -> None:
        content = _note(self._token).encode()
        if exclusively:
            try:
                self._fs.pipe_file(self._path, content, mode="create")
            except FileExistsError:
                return  # another driver was faster; its note is found after the pause
            except (TypeError, ValueError, NotImplementedError):
                pass  # this file system cannot create exclusively
            else:
                return
        self._fs.pipe_file(self._path, content)

    def _is_own(self, note: str | None) -> bool:
        return note is not None and _field(note, "token") == self._token


def _note(token: str) -> str:
    return json.dumps({"driver": f"{socket.gethostname()}:{os.getpid()}", "alive": time.time(), "token": token})


def _field(note: str, name: str) -> object:
    try:
        content = json.loads(note)
    except ValueError:
        return None
    return content.get(name) if isinstance(content, dict) else None


def _alive(note: str) -> float:
    """When a note was last renewed, in seconds since the epoch; 0 for a damaged note."""
    alive = _field(note, "alive")
    return float(alive) if isinstance(alive, int | float) else 0.0


def _driver(note: str) -> str:
    return str(_field(note, "driver") or "another process")


def _refused(location: str, note: str) -> InvalidInput:
    return InvalidInput("sweep", location, f"is being run by {_driver(note)}; a sweep has one driver at a time")
