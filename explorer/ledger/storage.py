"""The ledger: the source of truth about a sweep. One immutable JSON record per trial, written when the trial ends.

A sweep's folder (local, or any URI that fsspec opens) holds `sweep.json`, written once, `ledger/<trial id>.json`,
`started/<trial id>.json`, written before the trial runs, and `superseded/<trial id>.<n>.json` for attempts at a trial that
failed and were followed by another one. A sweep in device-seconds has its table of step times in `step_times.json`, written
before the first trial, one with `recipe.compile: auto` has what was chosen in `compilation.json`, and one with `search.from`
has what it took from earlier sweeps in `earlier_sweeps.json`. Needs neither torch nor ray.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from explorer.errors import InvalidInput, UnknownKey, validated
from explorer.ledger.earlier_sweeps import EarlierSweep
from explorer.ledger.records import Record, SweepHeader, Trial
from explorer.paths import expanded
from explorer.spec.step_times import StepTimeTable
from explorer.storage import PATIENCE_SECONDS, Storage

VERSION = 2
"""Version of the schema. A ledger of another version is refused, never converted."""
HEADER, RECORDS, STARTED, SUPERSEDED = "sweep.json", "ledger", "started", "superseded"
STEP_TIMES, COMPILATION, EARLIER_SWEEPS = "step_times.json", "compilation.json", "earlier_sweeps.json"
HALF_WRITTEN, FOREIGN, OTHER_NAME = "damaged or half-written", "not written by a sweep", "copies under another name"
"""Reasons why a file is passed over."""
PARALLEL_READS = 16
"""Number of records that are read from an object store at the same time."""
M = TypeVar("M", bound=BaseModel)


class PassedOverError(ValueError):
    """A file that is not what its place in the ledger says; the message is the reason."""


class _Compilation(BaseModel):
    """Content of `compilation.json`."""

    compile: bool


class _EarlierSweeps(BaseModel):
    """Content of `earlier_sweeps.json`."""

    sweeps: tuple[EarlierSweep, ...]


class Ledger:
    """A sweep's records on its storage.

    Args:
        location: the sweep's folder; a path or a URI.
        patience_seconds: how long reading and writing are tried again while the storage fails.

    Raises:
        InvalidInput: when the URI's file system is unknown or its package is missing.
    """

    def __init__(self, location: str | Path, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._storage = Storage(location, patience_seconds=patience_seconds)
        self.location = self._storage.location
        self._passed_over: dict[str, dict[str, str]] = {}
        """Reason for each file that was passed over, by folder."""

    @property
    def exists(self) -> bool:
        """True when there is a sweep at the location.

        Raises:
            InvalidInput: when the storage cannot be read.
        """
        try:
            return self._storage.exists(HEADER)
        except OSError as error:
            raise self._unusable("read", error) from None

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Number of files that the last `records` and `unfinished` passed over, by reason. Such a trial is run again."""
        return Counter(reason for files in self._passed_over.values() for reason in files.values())

    @property
    def warning(self) -> str | None:
        """One line about the files that the last `records` and `unfinished` passed over; `None` if there were none."""
        names = [f"{folder}/{name}" for folder, files in self._passed_over.items() for name in files]
        if not names:
            return None
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.passed_over.items()))
        return f"{len(names)} files of {self.location} were passed over ({reasons}), the first is {names[0]}"

    def create(self, header: SweepHeader) -> None:
        """Start a sweep.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        self._write(HEADER, {"version": VERSION, **header.model_dump(mode="json")})

    def header(self) -> SweepHeader:
        """Read the description of the sweep.

        Raises:
            InvalidInput: when there is no sweep, or its ledger is of another release.
        """
        path = f"{self.location}/{HEADER}"
        (content,) = self._contents([HEADER])
        if content is None:
            raise InvalidInput("sweep", self.location, "there is no sweep.json; not the folder of a sweep")
        try:
            return _parsed(SweepHeader, content, path)
        except PassedOverError as error:
            cause = error.__cause__
            detail = cause if isinstance(cause, InvalidInput) else InvalidInput(path, "unreadable", str(error))
            hint = "damaged, or written by another release; start a new sweep with another --name"
            raise InvalidInput(detail.field, detail.value, f"{detail.allowed} ({hint})") from None

    def step_times(self) -> StepTimeTable | None:
        """The sweep's table of step times; `None` if there is none.

        Raises:
            InvalidInput: when the storage cannot be read, or the table is damaged or of another release.
        """
        path = f"{self.location}/{STEP_TIMES}"
        (content,) = self._contents([STEP_TIMES])
        if content is None:
            return None
        try:
            return _parsed(StepTimeTable, content, path)
        except PassedOverError as error:
            raise InvalidInput(path, "unreadable", f"{error}; all plans of this sweep were made from it") from None

    def keep_step_times(self, table: StepTimeTable) -> None:
        """Keep the sweep's table of step times. Rows that are there already cannot be changed; others may be added.

        Raises:
            InvalidInput: when the storage cannot be written, or the table differs from the kept one in more than added rows.
        """
        kept = self.step_times()
        if kept is not None:
            added = table.verified[: len(kept.verified)] == kept.verified
            same = {**table.model_dump(), "verified": None} == {**kept.model_dump(), "verified": None}
            if not added or not same:
                raise InvalidInput(
                    "step times", self.location, "the sweep has a table already, by which its trials were planned"
                )
        self._write(STEP_TIMES, {"version": VERSION, **table.model_dump(mode="json")})

    def compilation(self) -> bool | None:
        """What was chosen for the sweep in place of `recipe.compile: auto`; `None` if nothing is.

        Raises:
            InvalidInput: when the storage cannot be read, or the file is damaged or of another release.
        """
        path = f"{self.location}/{COMPILATION}"
        (content,) = self._contents([COMPILATION])
        try:
            return None if content is None else _parsed(_Compilation, content, path).compile
        except PassedOverError as error:
            raise InvalidInput(path, "unreadable", str(error)) from None

    def keep_compilation(self, compile: bool) -> None:
        """Keep what was chosen in place of `recipe.compile: auto`.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        self._write(COMPILATION, {"version": VERSION, "compile": compile})

    def earlier_sweeps(self) -> tuple[EarlierSweep, ...]:
        """What the sweep has taken from earlier ones; empty if nothing is kept.

        Raises:
            InvalidInput: when the storage cannot be read, or the file is damaged or of another release.
        """
        path = f"{self.location}/{EARLIER_SWEEPS}"
        (content,) = self._contents([EARLIER_SWEEPS])
        try:
            return () if content is None else _parsed(_EarlierSweeps, content, path).sweeps
        except PassedOverError as error:
            raise InvalidInput(path, "unreadable", str(error)) from None

    def keep_earlier_sweeps(self, sweeps: Sequence[EarlierSweep]) -> None:
        """Keep what the sweep has taken from earlier ones.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        content = _EarlierSweeps(sweeps=tuple(sweeps)).model_dump(mode="json")
        self._write(EARLIER_SWEEPS, {"version": VERSION, **content})

    def append(self, record: Record) -> None:
        """Write a record. A completed record that exists already stays as it is, and so does a failed one unless this one is
        completed: a worker that was taken for dead may end first. A damaged file in its place is replaced.

        Raises:
            InvalidInput: when the storage cannot be written, or the record that exists is of another release.
        """
        name = f"{RECORDS}/{record.trial.id}.json"
        (existing,) = self._contents([name])
        with suppress(PassedOverError):
            before = None if existing is None else _parsed(Record, existing, f"{self.location}/{name}")
            if before and before.trial.id == record.trial.id and (before.outcome or not record.outcome):
                return
        self._write(name, {"version": VERSION, **record.model_dump(mode="json")})

    def start(self, trial: Trial) -> None:
        """Note that a trial starts. If the driver dies, the same trial is run again and finds its trained segments.

        Raises:
            InvalidInput: when the storage cannot be written.
        """
        self._write(f"{STARTED}/{trial.id}.json", {"version": VERSION, **trial.model_dump(mode="json")})

    def unfinished(self, records: Sequence[Record]) -> list[Trial]:
        """Trials that were started and have no record, in the order of their ids.

        Raises:
            InvalidInput: when the storage cannot be read, or a note is of another release.
        """
        finished = {record.trial.id for record in records}
        return self._load(Trial, STARTED, lambda trial, name: trial.id == name, finished)

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
            taken = [re.fullmatch(rf"{re.escape(trial_id)}\.(\d+)\.json", name) for name in self._files(SUPERSEDED)]
            number = 1 + max((int(each[1]) for each in taken if each), default=0)  # damaged files keep theirs
            name = f"{SUPERSEDED}/{trial_id}.{number}.json"
            self._write(name, {"version": VERSION, **record.model_dump(mode="json")})
        if self.record_of(trial_id) != record:
            return
        try:
            self._storage.remove(f"{RECORDS}/{trial_id}.json")
        except OSError as error:
            raise self._unusable("written", error) from None

    def record_of(self, trial_id: str) -> Record | None:
        """The record of a trial; `None` if there is none, or a damaged file in its place.

        Raises:
            InvalidInput: when the storage cannot be read, or the record is of another release.
        """
        name = f"{RECORDS}/{trial_id}.json"
        (content,) = self._contents([name])
        with suppress(PassedOverError):
            if content is not None:
                record = _parsed(Record, content, f"{self.location}/{name}")
                return record if record.trial.id == trial_id else None
        return None

    def superseded(self) -> list[Record]:
        """Records of failed attempts at trials that were tried again, in the order of finishing. They count as spending.

        Raises:
            InvalidInput: when the storage cannot be read, or a record is of another release.
        """
        records = self._load(Record, SUPERSEDED, lambda record, name: name.rpartition(".")[0] == record.trial.id)
        return sorted(records, key=lambda record: (record.finished, record.trial.id))

    def count(self) -> int:
        """Number of files in the place of records.

        Raises:
            InvalidInput: when the storage cannot be read.
        """
        return len(self._files(RECORDS))

    def records(self) -> list[Record]:
        """All records, in the order of finishing. Files that are no records are passed over; see `passed_over`.

        Raises:
            InvalidInput: when the storage cannot be read, or a record is of another release.
        """
        records = self._load(Record, RECORDS, lambda record, name: record.trial.id == name)
        return sorted(records, key=lambda record: (record.finished, record.trial.id))

    def _load(self, model: type[M], folder: str, fits: Callable[[M, str], bool], finished: Collection[str] = ()) -> list[M]:
        """The records or trials in a folder, but not those of finished trials. Notes what is passed over.

        Args:
            model: what the files hold.
            folder: name of the folder.
            fits: whether a file of this name, without `.json`, may hold this; a copy has another name.
            finished: ids of finished trials.
        """
        passed_over = self._passed_over[folder] = {}
        names = []
        for name in self._files(folder):
            if not name.endswith(".json") or name.startswith("."):
                passed_over[name] = FOREIGN
            elif name.removesuffix(".json") not in finished:
                names.append(name)
        loaded = []
        for name, content in zip(names, self._contents([f"{folder}/{name}" for name in names]), strict=True):
            if content is None:
                continue  # removed meanwhile
            try:
                item = _parsed(model, content, f"{self.location}/{folder}/{name}")
                if not fits(item, name.removesuffix(".json")):
                    raise PassedOverError(OTHER_NAME)
            except PassedOverError as error:
                passed_over[name] = str(error)
            else:
                loaded.append(item)
        return loaded

    def _files(self, folder: str) -> list[str]:
        """Names of the files in a folder, without those that a killed process left while it wrote."""
        try:
            return [entry.name for entry in self._storage.entries(folder) if not entry.name.endswith(".tmp")]
        except OSError as error:
            raise self._unusable("read", error) from None

    def _contents(self, names: list[str]) -> list[bytes | None]:
        """Contents of files; `None` for one that does not exist."""
        try:
            if self._storage.is_local:
                return [self._content(name) for name in names]
            with ThreadPoolExecutor(PARALLEL_READS) as pool:  # an object store takes some 50 ms for each
                return list(pool.map(self._content, names))
        except OSError as error:
            raise self._unusable("read", error) from None

    def _content(self, name: str) -> bytes | None:
        try:
            return self._storage.read(name)
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        try:
            self._storage.write(name, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise self._unusable("written", error) from None

    def _unusable(self, what: str, error: OSError) -> InvalidInput:
        return InvalidInput("storage", self.location, f"cannot be {what}: {error}")


def _parsed(model: type[M], content: bytes, path: str) -> M:
    """What a file holds.

    Raises:
        InvalidInput: when the file is of another release.
        PassedOverError: when it is damaged, or another program wrote it.
    """
    try:
        parsed = json.loads(content)
    except ValueError:
        raise PassedOverError(HALF_WRITTEN) from None
    if not isinstance(parsed, dict) or "version" not in parsed:
        raise PassedOverError(FOREIGN)
    version = parsed.pop("version")
    if version != VERSION:
        raise InvalidInput(f"{path}: version", version, _other_version(version))
    try:
        return validated(model, parsed, path)
    except UnknownKey as error:
        allowed = f"{error.allowed} (written by another release; start a new sweep with another --name)"
        raise InvalidInput(error.field, error.value, allowed) from None
    except InvalidInput as error:
        raise PassedOverError(f"invalid at {error.field.removeprefix(f'{path}: ')}") from error


def _other_version(version: object) -> str:
    reads = f"this release reads version {VERSION}"
    if isinstance(version, int) and version > VERSION:
        return f"the ledger was written by a newer release, and {reads}; install that release"
    return f"the ledger was written by an older release, and {reads}; start a new sweep with another --name"


def find_sweep(sweep: str, storage: str = "sweeps") -> Ledger:
    """The ledger of a sweep, given its folder, its URI, or its name under `storage`.

    Raises:
        InvalidInput: when there is no sweep at any of these places, or the storage cannot be read.
    """
    sweep, storage = expanded(sweep, "sweep"), expanded(storage, "storage")
    named = f"{storage.rstrip('/')}/{sweep}"
    for location in [sweep] if "://" in sweep else [sweep, named]:
        if Ledger(location, patience_seconds=0).exists:  # what cannot be reached is reported at once
            return Ledger(location)
    raise InvalidInput("sweep", sweep, "no sweep there" + ("" if "://" in sweep else f", nor at {named}"))


def sweeps_in(storage: str) -> list[Ledger]:
    """The ledgers of all sweeps on a storage, by the names of their folders; empty if there is no such storage.

    Raises:
        InvalidInput: when the storage cannot be read.
    """
    location = expanded(storage, "storage").rstrip("/")
    try:
        folders = Storage(location, patience_seconds=0).folders()
    except OSError as error:
        raise InvalidInput("storage", location, f"cannot be read: {error}") from None
    ledgers = [Ledger(f"{location}/{folder}") for folder in folders]
    return [ledger for ledger in ledgers if ledger.exists]
