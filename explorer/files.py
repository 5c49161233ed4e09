"""Atomic writing: a reader sees a complete file or none, even if the writer is killed. What cannot be written is one line."""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from explorer.errors import InvalidInput


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file next to `path`; if the block ends without an exception, it is synced and renamed to `path`.

    Missing parent folders are created. After an exception the temporary file is removed and `path` is unchanged. A link is
    followed, and a device or a pipe (`/dev/null`, `/dev/stdout`) is written to: neither is replaced by a file.

    Raises:
        OSError: when the folder or the file cannot be written, or `path` is a folder.
    """
    path = Path(path)
    if _is_device(path):
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Process ids repeat on other hosts, which may share the folder, and threads have the same one.
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether a path is that of a device or a pipe; raises `IsADirectoryError` for a folder."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.exists() and not path.is_file()


@contextmanager
def refused_if_unwritable(field: str, path: str | Path) -> Iterator[None]:
    """Turn an error of the file system, where a file that the user named is written, into one line.

    Args:
        field: what the user named it by, such as `out` for the option `--out`.
        path: the file or folder as the user knows it.

    Raises:
        InvalidInput: when the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise InvalidInput(field, str(path), f"cannot be written: {error.strerror or error}") from None


def check_writable(field: str, path: str | Path) -> None:
    """Check that a file can be written, before work starts of which it is the result. Missing parent folders are created.

    Args:
        field: what the user named it by, such as `out` for the option `--out`.
        path: the file.

    Raises:
        InvalidInput: when it cannot.
    """
    target = Path(path)
    with refused_if_unwritable(field, path):
        if _is_device(target):
            return
        folder = target.resolve().parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_file(path: str | Path, content: str | bytes) -> Path:
    """Write text (as UTF-8) or bytes atomically and return the path; see `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)
