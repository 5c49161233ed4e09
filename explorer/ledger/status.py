"""How a sweep stands, while it runs or after it: read from its storage alone, on any machine that sees it."""

from __future__ import annotations

import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from explorer.ledger.driver_note import SILENT_AFTER_SECONDS, DriverNote, RunningTrial
from explorer.ledger.realised_time import RealisedTime, realised_times
from explorer.ledger.records import Failure, OtherTrial, Outcome, Record, Trial
from explorer.ledger.spending import SpendingStatus, spending_status
from explorer.ledger.storage import Ledger
from explorer.ledger.time_left import seconds_left, seconds_of

State = Literal["running", "silent", "finished", "interrupted", "failed", "unknown"]
"""State of a driver. `silent`: it has stopped without a word, or cannot reach the storage; `unknown`: it has left no note."""


@dataclass(frozen=True, kw_only=True)
class DriverStatus:
    """The last driver of a sweep."""

    state: State
    host: str = ""
    pid: int | None = None
    started: float | None = None
    """Seconds since the epoch."""
    last_sign: float | None = None
    """When it was last seen alive; seconds since the epoch."""
    reason: str | None = None
    """Why it failed, in one line."""

    @classmethod
    def of(cls, note: DriverNote | None, now: float) -> DriverStatus:
        """The status of the driver that wrote a note."""
        if note is None:
            return cls(state="unknown")
        silent = now - note.updated > SILENT_AFTER_SECONDS or (note.host == socket.gethostname() and not _exists(note.pid))
        state: State = note.ending or ("silent" if silent else "running")
        return cls(state=state, host=note.host, pid=note.pid, started=note.started, last_sign=note.updated, reason=note.reason)


@dataclass(frozen=True, kw_only=True)
class TrialStatus:
    """A trial that runs."""

    id: str
    budget: str
    """The budget as text; of a proxy, `25% of proxy 1`."""
    worker: str
    """Host and process; empty until the worker has answered."""
    since: float
    """Seconds since the epoch."""
    segments: int
    planned_segments: int | None
    cost: float
    """Cost so far in full trainings."""


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Trials that failed for the same reason, apart from numbers in it."""

    reason: str
    """The reason of the first one."""
    failure: Failure | None
    trials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """How a sweep stands."""

    name: str
    location: str
    driver: DriverStatus
    planned: int
    """Number of trials of the whole sweep."""
    completed: int
    failed: int
    running: tuple[TrialStatus, ...]
    """Trials that have a worker. Empty if no driver is alive."""
    waiting: tuple[str, ...]
    """Trials that have been started and have no worker: they wait for one, or for the next run of the sweep."""
    failures: tuple[FailureGroup, ...]
    """The most frequent first."""
    spent_full_trainings: float
    """Executed cost of the completed trials, of proxies too."""
    spent_device_seconds: float
    """Device time of the completed trials."""
    failed_device_seconds: float
    """Device time of the failed trials, and of failed attempts at trials that were tried again."""
    running_device_seconds: float
    """Device time of the running trials so far."""
    left_trials: int
    """Trials that a driver would train; none of a sweep that has finished."""
    left_device_seconds: float | None
    """Estimated device time of the trials without a record, less that of the running ones so far; `None` if no trial is
    completed yet."""
    processes: int
    """Number of processes of each trial, each on a device of its own."""
    places: int | None
    """Number of trials that run side by side; `None` if no driver is alive."""
    spending: SpendingStatus | None
    """How the sweep stands with its spending limit; `None` if there is none."""
    passed_over: Mapping[str, int]
    """Number of files in the sweep's folder that are no records, by reason."""
    unaffordable_trials: int = 0
    """Planned trials that do not fit into what is left of the limit of a sweep that has finished."""
    proxy_trials: int = 0
    """Number of the trials of proxies that have ended."""
    proxy_full_trainings: float = 0.0
    """The part of `spent_full_trainings` that proxies took."""
    warm_starts: Mapping[str, int] = field(default_factory=dict)
    """Number of the trials that have ended whose schedules are of earlier sweeps, by sweep."""
    reused: Mapping[str, int] = field(default_factory=dict)
    """Number of trials whose results are of other sweeps on the storage, by sweep. They cost this one nothing."""
    above_goal: int = 0
    """Number of trials, ended or begun, at budgets above those of the last run, as after `--for` a smaller one. No other number
    of trials has them; what they spent is counted."""
    realised_time: RealisedTime | None = None
    """How closely the trials met their plans in time; `None` if their step times were not measured."""

    @property
    def left_seconds(self) -> float | None:
        """Estimated time until the sweep ends; `None` if it cannot be told, or nobody works on it."""
        if self.left_device_seconds is None or self.places is None:
            return None
        return self.left_device_seconds / self.processes / max(1, self.places)


def sweep_status(ledger: Ledger, now: float | None = None) -> SweepStatus:
    """Read how a sweep stands.

    Args:
        ledger: the sweep's ledger.
        now: the present time in seconds since the epoch; default: that of this machine's clock.

    Raises:
        InvalidInput: when there is no sweep, or its ledger is of another release.
    """
    now = time.time() if now is None else now
    header = ledger.header()
    note = DriverNote.read(ledger.location)  # before the records: a trial that ends meanwhile is not missed
    every_record = ledger.records()
    every_unfinished = ledger.unfinished(every_record)
    driver = DriverStatus.of(note, now)
    alive = note is not None and driver.state == "running"
    space = note.space if note else header.space.up_to_goal()
    records = [record for record in every_record if record.trial.budget in space.budgets]
    unfinished = [trial for trial in every_unfinished if trial.budget in space.budgets]
    running = _running(note.running, unfinished) if note and alive else ()
    has_worker = {trial.id for trial in running}
    limit = note.spend if note else header.space.search.spend
    superseded = ledger.superseded()
    begun = len(records) + len(unfinished)  # how many a spending limit allows is known to the driver alone
    planned = note.planned if note else begun if limit else space.planned_trials
    processes = header.space.resources.process_count  # each on a device of its own
    running_seconds = sum(max(0.0, now - trial.since) for trial in running)
    has_finished = limit is not None and note is not None and note.ending == "finished"
    left = seconds_left(space, len(records) if has_finished else planned, records)
    failed = [record for record in records if record.outcome is None]
    trained = [record.outcome for record in every_record if record.outcome and record.was_trained]
    on_proxies = [record for record in records if record.trial.proxy is not None]
    return SweepStatus(
        name=header.name,
        location=ledger.location,
        driver=driver,
        planned=planned,
        completed=len(records) - len(failed),
        failed=len(failed),
        running=running,
        waiting=tuple(trial.id for trial in unfinished if trial.id not in has_worker),
        failures=_grouped(failed),
        spent_full_trainings=sum(outcome.executed_cost for outcome in trained),
        spent_device_seconds=sum(_device_seconds(outcome) for outcome in trained),
        failed_device_seconds=processes
        * seconds_of(
            [
                *(record for record in every_record if record.outcome is None),
                *(attempt for attempt in superseded if attempt.failure != "preempted"),
            ]
        ),
        running_device_seconds=processes * running_seconds,
        left_trials=0 if has_finished else max(0, planned - len(records)),
        unaffordable_trials=max(0, planned - len(records)) if has_finished else 0,
        left_device_seconds=None if left is None else processes * max(0.0, left - running_seconds),
        processes=processes,
        places=note.places if note and alive else None,
        spending=spending_status(header.space, limit, every_record, superseded),
        passed_over=dict(ledger.passed_over),
        proxy_trials=len(on_proxies),
        proxy_full_trainings=sum(
            record.outcome.executed_cost
            for record in every_record
            if record.trial.proxy is not None and record.outcome and record.was_trained
        ),
        warm_starts=_by_sweep(record.trial.from_sweep for record in records if record.trial.phase == "search"),
        reused=_by_sweep(record.reused_from for record in records),
        above_goal=len(every_record) + len(every_unfinished) - len(records) - len(unfinished),
        realised_time=next(iter(reversed(realised_times(every_record))), None),
    )


def _running(noted: Mapping[str, RunningTrial], unfinished: Sequence[Trial]) -> tuple[TrialStatus, ...]:
    """The running trials, the oldest first; not those that have ended since the note was written."""
    trials = [
        TrialStatus(
            id=trial.id,
            budget=str(trial.budget) if trial.proxy is None else f"{trial.budget} of proxy {trial.proxy}",
            worker=noted[trial.id].worker,
            since=noted[trial.id].since,
            segments=noted[trial.id].segments,
            planned_segments=noted[trial.id].planned_segments,
            cost=noted[trial.id].cost,
        )
        for trial in unfinished
        if trial.id in noted
    ]
    return tuple(sorted(trials, key=lambda trial: (trial.since, trial.id)))


def _by_sweep(origins: Iterable[OtherTrial | None]) -> dict[str, int]:
    return dict(Counter(origin.sweep for origin in origins if origin is not None))


def _grouped(failed: Sequence[Record]) -> tuple[FailureGroup, ...]:
    groups: dict[tuple[Failure | None, str], list[Record]] = {}
    for record in failed:
        groups.setdefault((record.failure, re.sub(r"\d+(\.\d+)?", "0", record.reason or "")), []).append(record)
    return tuple(
        FailureGroup(
            reason=records[0].reason or "unknown", failure=failure, trials=tuple(record.trial.id for record in records)
        )
        for (failure, _), records in sorted(groups.items(), key=lambda group: -len(group[1]))
    )


def _device_seconds(outcome: Outcome) -> float:
    """Time that a trial took for itself, of all its devices together."""
    training = outcome.train_seconds if outcome.executed_seconds is None else outcome.executed_seconds
    return outcome.processes * (training + outcome.evaluation_seconds)


def _exists(pid: int) -> bool:
    """Whether this machine has a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # of another user
    return True
