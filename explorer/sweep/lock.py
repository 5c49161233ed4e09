"""One driver a sweep: a lock that a crash does not leave behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from explorer.errors import InvalidInput

NAME = "driver.json"
RENEWED_EVERY, DEAD_AFTER = 30.0, 120.0
"""Seconds; where files cannot be locked, the driver's note is renewed, and an old one is that of a dead driver."""


@contextmanager
def only_driver(location: str) -> Iterator[None]:
    """Be the only driver of the sweep at `location` for a while.

    Raises:
        InvalidInput: when another driver is at work there, or the storage cannot be written.
    """
    fs, path = fsspec.core.url_to_fs(f"{location}/{NAME}")
    held = _locked_file(Path(path), location) if isinstance(fs, LocalFileSystem) else _renewed_note(fs, path, location)
    with held:
        yield


def _note() -> dict[str, str | float]:
    return {"driver": f"{socket.gethostname()}:{os.getpid()}", "alive": time.time()}


def _refused(location: str, note: str) -> InvalidInput:
    try:
        other = json.loads(note)["driver"]
    except (ValueError, KeyError, TypeError):
        other = "another process"
    return InvalidInput("sweep", location, f"is being run by {other}; a sweep has one driver at a time")


@contextmanager
def _locked_file(path: Path, location: str) -> Iterator[None]:
    """flock: the kernel lets go of it when the process ends, however it ends. NFS passes it on to its server."""
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
        file.write(json.dumps(_note()))
        file.flush()
        yield


@contextmanager
def _renewed_note(fs: fsspec.AbstractFileSystem, path: str, location: str) -> Iterator[None]:
    fs.invalidate_cache()
    if fs.exists(path):
        note = fs.cat_file(path).decode()
        try:
            alive = float(json.loads(note)["alive"])
        except (ValueError, KeyError, TypeError):
            alive = 0.0
        if time.time() - alive < DEAD_AFTER:
            raise _refused(location, note)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_EVERY):
            fs.pipe_file(path, json.dumps(_note()).encode())

    try:
        fs.pipe_file(path, json.dumps(_note()).encode())
    except OSError as error:
        raise InvalidInput("storage", location, f"cannot be written: {error}") from None
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        fs.rm(path)
