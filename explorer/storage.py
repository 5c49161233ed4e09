"""Whole files in a folder or an object store: atomic writes, exclusive creation, and retries while the storage fails."""

from __future__ import annotations

import errno
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from explorer.errors import InvalidInput
from explorer.files import write_file

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""How long storage that fails is tried again. Object stores that restart or limit requests usually answer within this time."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0
"""Pauses between attempts double from the first to the longest one."""
PASSING_ERRORS = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.EINTR,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    getattr(errno, "ESTALE", errno.EIO),
    getattr(errno, "EREMOTEIO", errno.EIO),  # what s3fs makes of status 500
}
"""Errors of the operating system, or of what fsspec makes of a server's answer, that may be over at the next attempt."""
FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class Entry:
    """A file in a folder."""

    name: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch; 0 if the storage does not say."""


class Storage:
    """A folder, or a prefix of an object store, in which whole files are read and written.

    Every method raises `OSError`, whatever the file system raises by itself: `FileNotFoundError`, `FileExistsError` and
    `PermissionError` where they apply, and for missing credentials `PermissionError` too.

    Args:
        location: a path or a URI that fsspec opens.
        patience_seconds: how long an operation is tried again while the storage fails; 0 reports the first failure.

    Raises:
        InvalidInput: when the URI's file system is unknown or its package is missing.
    """

    def __init__(self, location: str | Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.location, self.patience_seconds = str(location).rstrip("/"), patience_seconds
        try:
            # Other processes write, so a list of files that was kept would be out of date.
            self._fs, self._path = fsspec.core.url_to_fs(self.location, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InvalidInput("storage", self.location, str(error)) from None

    @property
    def is_local(self) -> bool:
        """True for a folder, false for an object store."""
        return isinstance(self._fs, LocalFileSystem)

    @property
    def folder(self) -> Path:
        """The path of a folder."""
        return Path(self._path)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._patiently(lambda: self._fs.exists(self._of(name))))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return bytes(self._patiently(lambda: self._fs.cat_file(self._of(name))))

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees all of it, or what was there before."""
        if self.is_local:
            self._patiently(lambda: write_file(self._of(name), content))
        else:
            self._patiently(lambda: self._fs.pipe_file(self._of(name), content))  # object stores publish whole objects

    def create(self, name: str, content: bytes) -> None:
        """Write a file that must not exist: of several processes that create it, one succeeds.

        The others get `FileExistsError`; so may the one that succeeded, if the storage's first answer was lost. A file system
        that knows no exclusive creation lets the last one win.
        """
        if self.is_local:
            self._patiently(lambda: _link_exclusively(Path(self._of(name)), content))
        else:
            self._patiently(lambda: self._create_object(self._of(name), content))

    def entries(self, name: str = "") -> list[Entry]:
        """The files in a folder within this one, or in this one, sorted by name; an empty list if there is no such folder."""
        files = (each for each in self._listed(name) if each["type"] == "file")
        found = [Entry(each["name"].rsplit("/", 1)[-1], each["size"] or 0, _modified(each)) for each in files]
        return sorted((entry for entry in found if entry.name), key=lambda entry: entry.name)

    def folders(self) -> list[str]:
        """Names of the folders in this one, sorted; an empty list if this one does not exist."""
        folders = (each["name"] for each in self._listed("") if each["type"] == "directory")
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in folders)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._fs.rm_file(self._of(name)))

    def clear(self) -> None:
        """Remove the folder with everything in it, if it exists."""
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._fs.rm(self._path, recursive=True))

    def _listed(self, name: str) -> list[dict[str, Any]]:
        """What the file system says about everything in a folder; an empty list if there is no such folder."""
        try:
            return list(self._patiently(lambda: self._fs.ls(self._of(name), detail=True)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _of(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _create_object(self, path: str, content: bytes) -> None:
        try:
            self._fs.pipe_file(path, content, mode="create")
        except OSError as error:
            if _refused_condition(error):
                raise FileExistsError(errno.EEXIST, "exists already", path) from error
            raise
        except (TypeError, ValueError, NotImplementedError):  # this file system, or this release of it, knows no such mode
            if self._fs.exists(path):
                raise FileExistsError(errno.EEXIST, "exists already", path) from None
            self._fs.pipe_file(path, content)

    def _patiently(self, operation: Callable[[], T]) -> T:
        """The result of an operation, tried again with growing pauses while its error may pass."""
        deadline = time.monotonic() + self.patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return operation()
            except Exception as error:  # file systems raise errors of their own
                if not _may_pass(error) or time.monotonic() + pause > deadline:
                    raise _as_os_error(error) from error
            time.sleep(pause * random.uniform(0.5, 1))  # so that many workers do not come back at the same time
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _link_exclusively(path: Path, content: bytes) -> None:
    """Create a file with its content at once: link a complete one to its name, which fails if the name is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = write_file(path.with_name(f".{path.name}.{uuid.uuid4().hex}"), content)
    try:
        path.hardlink_to(complete)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        with path.open("xb") as file:  # a file system without links: a reader may see the file before its content
            file.write(content)
    finally:
        complete.unlink(missing_ok=True)


def _modified(entry: dict[str, object]) -> float:
    """When a file was written; file systems name and type it differently."""
    modified = entry.get("mtime") or entry.get("LastModified") or entry.get("last_modified") or entry.get("created") or 0.0
    if isinstance(modified, datetime):
        return modified.timestamp()
    if isinstance(modified, int | float):
        return float(modified)
    with suppress(ValueError):
        return datetime.fromisoformat(str(modified)).timestamp()
    return 0.0


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Status and code of the server's answer that caused an error, where the file system passes it on."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), str(response.get("Error", {}).get("Code", ""))
        status = getattr(cause, "status", None) or getattr(cause, "code", None)  # aiohttp, gcsfs
        if isinstance(status, int):
            return status, ""
    return None, ""


def _refused_condition(error: BaseException) -> bool:
    """Whether a server refused to overwrite a file, or saw two requests to create it at the same time."""
    status, _ = _answer(error)
    return isinstance(error, FileExistsError) or status in (409, 412)


def _may_pass(error: BaseException) -> bool:
    """Whether an operation that failed may succeed at the next attempt."""
    status, code = _answer(error)
    if status is not None:
        return status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout")
    if isinstance(error, FINAL_ERRORS):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or (isinstance(error, OSError) and error.errno in PASSING_ERRORS):
        return True
    # Errors of HTTP clients that no OSError stands for: a connection that failed, an answer that broke off.
    return any(base.__name__ in ("HTTPClientError", "ClientError", "ClientPayloadError") for base in type(error).__mro__)


def _as_os_error(error: Exception) -> OSError:
    """The error itself, or an OSError with its message on one line."""
    if isinstance(error, OSError):
        return error
    message = " ".join(str(error).split()) or type(error).__name__
    if "redential" in message or "redential" in type(error).__name__:
        return PermissionError(message)
    return OSError(message)
