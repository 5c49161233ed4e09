"""Locks of files by the operating system, which releases them when their process ends, however it ends."""

from __future__ import annotations

import errno
import importlib
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TextIO


class FileLockedError(Exception):
    """Another process has locked the file."""

    def __init__(self, content: str) -> None:
        super().__init__(content)
        self.content = content
        """What that process wrote into it."""


def fcntl_module() -> ModuleType | None:
    """The module of file locks; `None` on platforms without it."""
    with suppress(ImportError):
        return importlib.import_module("fcntl")
    return None


def locked_file(path: Path, content: str) -> TextIO | None:
    """Lock a file by flock, and write into it who has it. NFS passes the lock to its server.

    Returns:
        The file, which is unlocked when it is closed; `None` where files cannot be locked.

    Raises:
        FileLockedError: when another process has locked it.
        OSError: when it cannot be written.
    """
    if (fcntl := fcntl_module()) is None:
        return None
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        found = file.read()
        file.close()
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise FileLockedError(found) from None
        return None  # ENOLCK, ENOTSUP, ENOSYS, EINVAL, ...: this file system keeps no locks
    file.truncate(0)
    file.write(content)
    file.flush()
    return file
