"""Trainings that trials share, seen from the driver: repeats are answered, beginnings are trained once. No ray.

The stage store hands over what was trained before; this decides who trains it. A trial whose beginning is in training elsewhere
is held back while others go first. It ends no later for that: the other one is ahead of it on the same steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from explorer.ledger import Record, Trial
from explorer.plan import Plan

HELD = 8
"""Trials held back at most: more would be proposed by a search that knows too little yet."""


class Proposer(Protocol):
    """Proposes trials and learns how they ended."""

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial; `wait` while running trials decide what comes next, `done` when nothing is left."""

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended."""

    def repeated(self, record: Record) -> None:
        """Learn from a proposal that was trained before; its record is the earlier one's, with the proposal as its trial."""


@dataclass
class _Training:
    trial: Trial
    key: str
    """Equal for trials that are the same training."""
    prefixes: tuple[str, ...]
    """Keys of the training after one segment, two, ... and all but the last."""
    segments_done: int = 0


class SharedWork:
    """A search without repeated work.

    Args:
        search: proposes trials.
        plan_of: compiles a trial.
        records: what the ledger already holds.
        hold: whether trials can start from what others trained; without a stage store there is nothing to wait for.
    """

    def __init__(
        self, search: Proposer, plan_of: Callable[[Trial], Plan], records: Iterable[Record] = (), *, hold: bool = True
    ) -> None:
        self._search, self._plan_of, self._hold = search, plan_of, hold
        self._done = {_key(record.trial, record.plan): record for record in records if record.plan}
        self._trained: set[str] = set()
        self._running: dict[str, _Training] = {}
        self._held: list[_Training] = []
        self._followers: dict[str, list[Trial]] = {}
        self.answered = 0
        """Proposals that were trained before, or were in training."""

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial to train; see `Proposer`. Never `wait` when nothing runs, unless the search says so."""
        for training in self._held:
            if not self._waits(training):
                self._held.remove(training)
                return self._start(training)
        while len(self._held) < HELD:
            trial = self._search.next()
            if not isinstance(trial, Trial):
                return "wait" if self._held or self._followers else trial
            training = self._training(trial)
            if trial.phase == "search" and training.key in self._done:
                self._answer(trial, self._done[training.key])
            elif trial.phase == "search" and any(training.key == other.key for other in self._pending()):
                self._followers.setdefault(training.key, []).append(trial)
            elif self._waits(training):
                self._held.append(training)
            else:
                return self._start(training)
        return "wait"

    def progressed(self, trial_id: str, segments_done: int) -> None:
        """A running trial has trained so many of its segments."""
        training = self._running[trial_id]
        training.segments_done = segments_done
        self._trained.update(training.prefixes[:segments_done])

    def finished(self, record: Record) -> None:
        """A trial ended: tell the search, and answer those that are the same training."""
        training = self._running.pop(record.trial.id)
        if record.outcome:
            self._trained.update(training.prefixes)
        if record.plan:
            self._done[training.key] = record
        self._search.finished(record)
        for trial in self._followers.pop(training.key, []):
            self._answer(trial, record)

    def _pending(self) -> list[_Training]:
        return [*self._running.values(), *self._held]

    def _training(self, trial: Trial) -> _Training:
        plan = self._plan_of(trial)
        return _Training(trial, _key(trial, plan.digest()), tuple(prefix_keys(trial, plan)))

    def _start(self, training: _Training) -> Trial:
        self._running[training.trial.id] = training
        return training.trial

    def _answer(self, trial: Trial, record: Record) -> None:
        self.answered += 1
        self._search.repeated(record.model_copy(update={"trial": trial}))

    def _waits(self, training: _Training) -> bool:
        """True when a running trial is just training a longer beginning of this one than there is already."""
        if not self._hold:
            return False
        there = sum(1 for prefix in training.prefixes if prefix in self._trained)
        return any(
            max(there, other.segments_done) < _common(training.prefixes, other.prefixes) for other in self._running.values()
        )


def prefix_keys(trial: Trial, plan: Plan) -> list[str]:
    """Keys of a training after one segment, two, ... and all but the last: equal where trials of one sweep began alike.

    Cheaper than those of the stage store, which see single steps and so also what budgets share.
    """
    chain, keys = hashlib.sha256(_settings(trial).encode()), []
    for segment in plan.segments[:-1]:
        times = f"{segment.start_time!r} {segment.end_time!r} {segment.lr_schedule!r}"
        chain.update(f"{segment.requested!r} {segment.steps} {times};".encode())
        keys.append(chain.hexdigest())
    return keys


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Length of the common beginning."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))


def _settings(trial: Trial) -> str:
    return json.dumps([trial.learning_rate, trial.batch_size, trial.seed, sorted(trial.staging.items())])


def _key(trial: Trial, digest: str) -> str:
    return f"{_settings(trial)} {digest}"
