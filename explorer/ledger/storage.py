"""The ledger: the source of truth about a sweep. One immutable JSON record per trial, written when the trial ends.

A sweep's folder (local, or any URI that fsspec opens) holds `sweep.json`, written once, `ledger/<trial id>.json`,
`started/<trial id>.json`, written before the trial runs, and `superseded/<trial id>.<n>.json` for attempts at a trial that
failed and were followed by another one. Needs neither torch nor ray.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel

from explorer.errors import InvalidInput, validated
from explorer.files import write_file
from explorer.ledger.records import Record, SweepHeader, Trial
from explorer.paths import expanded

VERSION = 2
"""Version of the schema. A ledger of another version is refused, never converted."""
M = TypeVar("M", bound=BaseModel)


class Ledger:
    """A sweep's records on its storage.

    Args:
        location: the sweep's folder; a path or a URI.

    Raises:
        InvalidInput: when the URI's file system is unknown or its package is missing.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location).rstrip("/")
        try:
            self._fs, self._path = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise InvalidInput("storage", self.location, str(error)) from None

    @property
    def exists(self) -> bool:
        """True when there is a sweep at the location."""
        return bool(self._fs.exists(f"{self._path}/sweep.json"))

    def create(self, header: SweepHeader) -> None:
        """Start a sweep.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        self._write("sweep.json", {"version": VERSION, **header.model_dump(mode="json")})

    def header(self) -> SweepHeader:
        """Read the description of the sweep.

        Raises:
            InvalidInput: when there is no sweep, or its ledger is of another release.
        """
        if not self.exists:
            raise InvalidInput("sweep", self.location, "there is no sweep.json; not the folder of a sweep")
        return self._read(SweepHeader, f"{self._path}/sweep.json")

    def append(self, record: Record) -> None:
        """Write a record. A record that exists already stays as it is.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        name = f"ledger/{record.trial.id}.json"
        if not self._fs.exists(f"{self._path}/{name}"):
            self._write(name, {"version": VERSION, **record.model_dump(mode="json")})

    def start(self, trial: Trial) -> None:
        """Note that a trial starts. If the driver dies, the same trial is run again and finds its trained segments.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        self._write(f"started/{trial.id}.json", {"version": VERSION, **trial.model_dump(mode="json")})

    def unfinished(self, records: Sequence[Record]) -> list[Trial]:
        """Trials that were started and have no record, in the order of their ids.

        Raises:
            InvalidInput: when a note is damaged or of another release.
        """
        finished = {record.trial.id for record in records}
        paths = [path for path in self._files("started") if path.rsplit("/", 1)[-1].removesuffix(".json") not in finished]
        return [self._read(Trial, path) for path in sorted(paths)]

    def set_aside(self, record: Record) -> None:
        """Keep the record of a failed attempt at a trial that is tried again: `superseded/<trial id>.<n>.json`, from n = 1.

        If it is the trial's record in the ledger, it is moved there, and the trial is unfinished again. A crash in between
        loses nothing: the same call finds the copy that was written.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        trial_id = record.trial.id
        earlier = [kept for kept in self.superseded() if kept.trial.id == trial_id]
        self.start(record.trial)
        if record not in earlier:
            name = f"superseded/{trial_id}.{len(earlier) + 1}.json"
            self._write(name, {"version": VERSION, **record.model_dump(mode="json")})
        if self.record_of(trial_id) != record:
            return
        try:
            self._fs.rm(f"{self._path}/ledger/{trial_id}.json")
        except OSError as error:
            raise InvalidInput("storage", self.location, f"cannot be written: {error}") from None

    def record_of(self, trial_id: str) -> Record | None:
        """The record of a trial; `None` if there is none.

        Raises:
            InvalidInput: when it is damaged or of another release.
        """
        self._fs.invalidate_cache()
        path = f"{self._path}/ledger/{trial_id}.json"
        return self._read(Record, path) if self._fs.exists(path) else None

    def superseded(self) -> list[Record]:
        """Records of failed attempts at trials that were tried again, in the order of finishing. They count as spending.

        Raises:
            InvalidInput: when a record is damaged or of another release.
        """
        records = [self._read(Record, path) for path in self._files("superseded")]
        return sorted(records, key=lambda record: (record.finished, record.trial.id))

    def count(self) -> int:
        """Number of records."""
        return len(self._files("ledger"))

    def records(self) -> list[Record]:
        """All records, in the order of finishing.

        Raises:
            InvalidInput: when a record is damaged or of another release.
        """
        records = [self._read(Record, path) for path in self._files("ledger")]
        return sorted(records, key=lambda record: (record.finished, record.trial.id))

    def _files(self, name: str) -> list[str]:
        self._fs.invalidate_cache()
        folder = f"{self._path}/{name}"
        return [p for p in self._fs.ls(folder, detail=False) if p.endswith(".json")] if self._fs.exists(folder) else []

    def _read(self, model: type[M], path: str) -> M:
        try:
            content = json.loads(self._fs.cat_file(path))
        except (OSError, ValueError) as error:
            raise InvalidInput(path, "unreadable", str(error)) from None
        version = content.pop("version", None) if isinstance(content, dict) else None
        if version != VERSION:
            raise InvalidInput(f"{path}: version", version, _other_version(version))
        try:
            return validated(model, content, path)
        except InvalidInput as error:
            allowed = f"{error.allowed} (damaged, or written by another release; start a new sweep with another --name)"
            raise InvalidInput(error.field, error.value, allowed) from None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        data = json.dumps(content, indent=1).encode()
        path = f"{self._path}/{name}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                write_file(path, data)
            else:
                self._fs.pipe_file(path, data)  # object stores publish whole objects
        except OSError as error:
            raise InvalidInput("storage", self.location, f"cannot be written: {error}") from None


def _other_version(version: object) -> str:
    reads = f"this release reads version {VERSION}"
    if isinstance(version, int) and version > VERSION:
        return f"the ledger was written by a newer release, and {reads}; install that release"
    return f"the ledger was written by an older release, and {reads}; start a new sweep with another --name"


def find_sweep(sweep: str, storage: str = "sweeps") -> Ledger:
    """The ledger of a sweep, given its folder, its URI, or its name under `storage`.

    Raises:
        InvalidInput: when there is no sweep at any of these places.
    """
    sweep, storage = expanded(sweep, "sweep"), expanded(storage, "storage")
    ledger = Ledger(sweep)
    if ledger.exists:
        return ledger
    named = Ledger(f"{storage.rstrip('/')}/{sweep}")
    if "://" not in sweep and named.exists:
        return named
    raise InvalidInput("sweep", sweep, f"no sweep there, nor at {named.location}")
