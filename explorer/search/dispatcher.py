"""Hands out trials so that no training is done twice: duplicates are deduplicated, and prefixes are trained once. No ray.

A proposal that is the same training as an earlier trial of its own kind and budget is a duplicate: it does not count as a
trial. A proposal that is the same training as a trial of another kind (a staged trial that trains the full model throughout is
the same training as a baseline) is a trial of its own: it gets a record of its own, marked with `shared_with` and charged
nothing. So does a proposal that is the same training as a finished trial of another sweep, marked with `reused_from`.

A trial whose prefix is being trained by a running trial is held back while others go first. It ends no later for that: the
running trial is ahead of it on the same steps, and the stage store hands over the state.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from explorer.ledger import Kind, Phase, Record, Trial
from explorer.plan import Plan
from explorer.search.proposer import Proposer, Status
from explorer.spec.budget import Budget
from explorer.training_key import prefix_keys, settings_key, training_key

MAX_HELD_BACK = 8
"""Trials that are held back at the same time, or as many as run side by side if these are more. Still more of them would be
proposed by a search that knows too little yet."""

Group = tuple[Kind, Budget, Phase]
"""Trials among which a training counts once."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial with its plan."""

    trial: Trial
    plan: Plan
    key: str
    """Key of the training; see `explorer.training_key`."""
    prefixes: tuple[str, ...]
    """Keys of the training after one segment, two, ... and all but the last."""

    @cached_property
    def trained_prefixes(self) -> frozenset[str]:
        """The same keys, to look for those of other trials."""
        return frozenset(self.prefixes)

    def segments_in(self, trained: Collection[str]) -> int:
        """Number of leading segments that need no training, given the keys of the prefixes that have been trained."""
        return max((number for number, prefix in enumerate(self.prefixes, start=1) if prefix in trained), default=0)


class Dispatcher:
    """Hands out the trials of a search.

    Args:
        search: proposes trials.
        compile_plan_of: compiles the plan of a trial; called once per proposal.
        records: what the ledger already holds.
        hold_back: whether trials can start from what others trained; without a stage store there is nothing to wait for.
        places: number of trials that can run side by side.
        trained_elsewhere: gives the record of a trial that another sweep has trained already; `None` if none has.

    Attributes:
        duplicates: number of proposals that were served from an earlier trial and do not count as trials.
        reused: number of trials that another sweep has trained already, by its name.
    """

    def __init__(
        self,
        search: Proposer,
        compile_plan_of: Callable[[Trial], Plan],
        records: Iterable[Record] = (),
        *,
        hold_back: bool = True,
        places: int = 1,
        trained_elsewhere: Callable[[Trial, Plan], Record | None] = lambda *_: None,
    ) -> None:
        self._search, self._compile_plan_of, self._hold_back = search, compile_plan_of, hold_back
        self._trained_elsewhere = trained_elsewhere
        self._max_held_back = max(MAX_HELD_BACK, places)
        self._trained: dict[str, Record] = {}
        self._by_group: dict[tuple[Group, str], Record] = {}
        self._trained_prefixes: set[str] = set()
        self._running: dict[str, PlannedTrial] = {}
        self._held_back: list[PlannedTrial] = []
        self._followers: dict[str, list[Trial]] = {}
        self._shared_records: list[Record] = []
        self.duplicates = 0
        self.reused: Counter[str] = Counter()
        for record in records:
            if record.describes_training:
                self._remember(training_key(_settings(record.trial), record.plan), record)

    def next(self) -> PlannedTrial | Status:
        """The next trial to train, or why there is none; see `Proposer`."""
        for planned in self._held_back:
            if not self._must_wait(planned):
                self._held_back.remove(planned)
                return self._start(planned)
        while len(self._held_back) < self._max_held_back:
            trial = self._search.next()
            if isinstance(trial, Status):
                return Status.WAIT if self._held_back or self._followers else trial
            planned = self._plan(trial)
            if planned.key in self._trained:
                self._serve(trial, planned.key)
            elif any(planned.key == other.key for other in (*self._running.values(), *self._held_back)):
                self._followers.setdefault(planned.key, []).append(trial)
            elif reused := self._trained_elsewhere(trial, planned.plan):
                assert reused.reused_from is not None
                self.reused[reused.reused_from.sweep] += 1
                self._remember(planned.key, reused)
                self._end_untrained(reused)
            elif self._must_wait(planned):
                self._held_back.append(planned)
            else:
                return self._start(planned)
        return Status.WAIT

    def take_shared_records(self) -> list[Record]:
        """Records of trials whose training was another trial's, since the last call. The search has learned from them."""
        shared, self._shared_records = self._shared_records, []
        return shared

    def progressed(self, trial_id: str, segments_done: int) -> None:
        """A running trial has trained this number of segments."""
        self._trained_prefixes.update(self._running[trial_id].prefixes[:segments_done])

    def finished(self, record: Record) -> None:
        """A running trial ended: tell the search, and serve the proposals that are the same training."""
        planned = self._running.pop(record.trial.id)
        if record.outcome:
            self._trained_prefixes.update(planned.prefixes)
        if record.describes_training:
            self._remember(planned.key, record)
        self._search.finished(record)
        followers = self._followers.pop(planned.key, [])
        if record.describes_training:
            for trial in followers:
                self._serve(trial, planned.key)
        elif followers:
            self._train_followers(record, followers)

    def _train_followers(self, record: Record, followers: list[Trial]) -> None:
        """A lost worker or a bad host says nothing about the training.

        The first follower of another group trains it; the others wait on.
        """
        others = []
        for trial in followers:
            if _group(trial) == _group(record.trial):
                self._deduplicate(trial, record)
            else:
                others.append(trial)
        if others:
            leader = self._plan(others[0])
            self._held_back.insert(0, leader)
            if others[1:]:
                self._followers[leader.key] = others[1:]

    def _plan(self, trial: Trial) -> PlannedTrial:
        plan = self._compile_plan_of(trial)
        settings = _settings(trial)
        return PlannedTrial(trial, plan, training_key(settings, plan.digest()), tuple(prefix_keys(settings, plan.segments)))

    def _start(self, planned: PlannedTrial) -> PlannedTrial:
        self._running[planned.trial.id] = planned
        return planned

    def _remember(self, key: str, record: Record) -> None:
        self._by_group[_group(record.trial), key] = record
        if record.shared_with is None or key not in self._trained:
            self._trained[key] = record

    def _serve(self, trial: Trial, key: str) -> None:
        """Serve a proposal from a training that has ended."""
        of_own_kind = self._by_group.get((_group(trial), key))
        if of_own_kind and trial.phase == "search":
            self._deduplicate(trial, of_own_kind)
            return
        record = shared_record(trial, self._trained[key])
        self._remember(key, record)
        self._end_untrained(record)

    def _end_untrained(self, record: Record) -> None:
        self._shared_records.append(record)
        self._search.finished(record)

    def _deduplicate(self, trial: Trial, record: Record) -> None:
        self.duplicates += 1
        self._search.deduplicated(trial, record)

    def _must_wait(self, planned: PlannedTrial) -> bool:
        """True when a running trial is training a longer prefix of this one than is available already."""
        if not self._hold_back:
            return False
        available = planned.segments_in(self._trained_prefixes)
        return any(available < planned.segments_in(other.trained_prefixes) for other in self._running.values())


def shared_record(trial: Trial, trained: Record) -> Record:
    """The record of a trial that was not trained, because the trial of another record is the same training.

    It has the results of that training and costs nothing: the training is charged to the trial that was trained.
    """
    outcome = trained.outcome
    if outcome:
        nothing = {"executed_flops": 0, "executed_seconds": 0.0}
        if outcome.charged_seconds is not None:
            nothing["charged_seconds"] = 0.0
        outcome = outcome.model_copy(update=nothing)
    now = time.time()
    return Record(
        trial=trial,
        status=trained.status,
        reason=trained.reason,
        failure=trained.failure,
        outcome=outcome,
        started=now,
        finished=now,
        worker=trained.worker,
        device=trained.device,
        plan=trained.plan,
        versions=trained.versions,
        shared_with=trained.shared_with or trained.trial.id,
    )


def _group(trial: Trial) -> Group:
    return trial.kind, trial.budget, trial.phase


def _settings(trial: Trial) -> str:
    key = settings_key(trial.learning_rate, trial.batch_size, trial.seed, trial.staging, optimizer=trial.optimizer)
    return key if trial.proxy is None else f"proxy {trial.proxy} {key}"  # another task
