"""Which trial comes next: one Optuna study per budget and kind, budgets climbed from the cheapest. No ray.

The state is rebuilt from the ledger's records, so a sweep that stopped goes on, and one with more trials
is extended, by doing nothing special.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from typing import Literal

import optuna

from explorer.ledger import KINDS, Kind, Outcome, Record, Trial
from explorer.search.proposal import distributions, first_guess, learning_rate_for, schedule_for, staging_for
from explorer.spec.budget import Budget
from explorer.spec.search_space import LEAST_TRIALS, SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every study and trial otherwise

PASSES = (1 / 3, 1.0)
"""Budgets are climbed twice: a third of the trials gives a first curve early. See benchmarks/README.md."""
DRAW_AFTER, EXHAUSTED_AFTER = 10, 200
"""After so many repeats in a row proposals are drawn at random; after so many, everything has been tried."""


class _Rung:
    """The study of one kind of trial at one budget."""

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        kind: Kind,
        records: Sequence[Record],
        unfinished: Sequence[Trial],
        storage: optuna.storages.BaseStorage | None,
    ) -> None:
        self.space, self.budget, self.kind = space, budget, kind
        self.wanted = space.trials_at(budget, kind)
        self.prefix = f"{budget.slug}-{kind}"
        self.completed: list[Record] = []
        self.running: dict[str, int] = {}
        self.asked = 0
        self._promoted = 0.0
        self._repeats = 0
        used = [int(trial.id.rsplit("-", 1)[1]) for trial in [*(r.trial for r in records), *unfinished]]
        self._numbers = itertools.count(1 + max(used, default=-1))
        self._distributions = distributions(space.search, kind)
        # Rungs, and restarts with more records, draw differently: equal seeds would propose the same trials again.
        seed = zlib.crc32(f"{space.search.seed} {self.prefix} {len(used)}".encode())
        self._sampler = optuna.samplers.TPESampler(
            multivariate=True, n_startup_trials=min(10, max(3, self.wanted // 3)), seed=seed, constant_liar=True
        )
        self._random = optuna.samplers.RandomSampler(seed=seed)
        directions = ["maximize"] + ["minimize"] * (space.search.minimize is not None)
        self.study = optuna.create_study(
            directions=directions, sampler=self._sampler, storage=storage, study_name=f"{space.name} {self.prefix}"
        )
        for record in records:
            self._remember(record)
        for trial in unfinished:
            self.study.enqueue_trial(trial.parameters)
            self.running[trial.id] = self.study.ask(self._distributions).number
            self.asked += 1
        recipe = space.task.recipe
        self._guesses = [] if used else [first_guess(space.search, kind, recipe.learning_rate, recipe.batch_size)]

    def goal(self, share: float) -> int:
        """Trials of the passes up to the one that ends with this share of them."""
        return min(self.wanted, max(LEAST_TRIALS, math.ceil(share * self.wanted)))

    def settled(self, share: float = 1.0) -> bool:
        """True when so many trials have ended."""
        return self.asked - len(self.running) >= self.goal(share)

    def may_ask(self, share: float, below: _Rung | None) -> bool:
        """True when the pass has a place. Its last ones are kept for the winners of the budget below until these are found."""
        places = self.goal(share) - self.asked
        if places <= 0 or below is None:
            return places > 0
        return self._promoted >= share or below.settled(share) or places > self.space.search.promote

    def _remember(self, record: Record) -> None:
        self.asked += 1
        if record.outcome:
            self.completed.append(record)
        state = optuna.trial.TrialState.COMPLETE if record.outcome else optuna.trial.TrialState.FAIL
        self.study.add_trial(
            optuna.trial.create_trial(
                params=record.trial.parameters,
                distributions=self._distributions,
                state=state,
                values=self._values(record.outcome) if record.outcome else None,
            )
        )

    def _values(self, outcome: Outcome) -> list[float]:
        minimize = self.space.search.minimize
        return [outcome.validation_accuracy] + ([float(getattr(outcome, minimize) or 0)] if minimize else [])

    def ask(self, share: float, below: _Rung | None) -> Trial:
        """The next search trial; in each pass, the winners of the budget below are tried before anything else that is new."""
        if below is not None and self._promoted < share and below.settled(share):
            self._promoted = share
            self._guesses[:0] = [record.trial.parameters for record in below.best(self.space.search.promote)]
        tried = [trial.params for trial in self.study.get_trials(deepcopy=False)] if self._guesses else []
        while self._guesses:
            guess = self._guesses.pop(0)
            if guess not in tried:
                self.study.enqueue_trial(guess)
                break
        self.study.sampler = self._random if self._repeats > DRAW_AFTER else self._sampler
        asked = self.study.ask(self._distributions)
        self.asked += 1
        trial = Trial(
            id=f"{self.prefix}-{next(self._numbers):03d}",
            phase="search",
            kind=self.kind,
            budget=self.budget,
            schedule=schedule_for(self.space.search, self.kind, asked.params),
            learning_rate=learning_rate_for(self.space.search, asked.params),
            batch_size=asked.params["batch_size"],
            seed=self.space.search.seed,
            staging=staging_for(self.space.search, self.kind, asked.params),
            parameters=asked.params,
        )
        self.running[trial.id] = asked.number
        return trial

    def tell(self, record: Record) -> None:
        """Learn from a trial that was trained."""
        self._repeats = 0
        self._tell(record)
        if record.outcome:
            self.completed.append(record)

    def repeated(self, record: Record) -> None:
        """Learn from a proposal that was trained before; it does not count as a trial."""
        self._tell(record)
        self.asked -= 1
        self._repeats += 1
        if self._repeats >= EXHAUSTED_AFTER:
            self.wanted = self.asked

    def _tell(self, record: Record) -> None:
        number = self.running.pop(record.trial.id)
        if record.outcome is None:
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(number, self._values(record.outcome))

    def best(self, count: int) -> list[Record]:
        """The best completed search trials by validation accuracy; among equals the first.

        With a second objective, first those that no other trial beats in both.
        """
        ranked = sorted(self.completed, key=_accuracy, reverse=True)
        if self.space.search.minimize:
            lowest, beaten = float("inf"), []
            for record in ranked:
                assert record.outcome is not None
                value = self._values(record.outcome)[1]
                beaten.append(value >= lowest)
                lowest = min(lowest, value)
            ranked = [record for _, record in sorted(zip(beaten, ranked, strict=True), key=lambda pair: pair[0])]
        return ranked[:count]


def _accuracy(record: Record) -> float:
    assert record.outcome is not None
    return record.outcome.validation_accuracy


class Search:
    """Proposes trials and learns from their records.

    Args:
        space: the search space.
        records: what the ledger already holds.
        unfinished: trials that were started before and have no record; they come first.
        storage: where Optuna keeps its studies, for its dashboard; default: in memory. It must be empty.
    """

    def __init__(
        self,
        space: SearchSpace,
        records: Sequence[Record] = (),
        unfinished: Sequence[Trial] = (),
        storage: optuna.storages.BaseStorage | None = None,
    ) -> None:
        self.space = space
        self.rungs = [
            _Rung(
                space,
                budget,
                kind,
                [r for r in records if r.trial.phase == "search" and _belongs(r.trial, budget, kind)],
                [trial for trial in unfinished if trial.phase == "search" and _belongs(trial, budget, kind)],
                storage,
            )
            for budget in space.budgets
            for kind in KINDS
        ]
        self._again = list(unfinished)
        self._confirmed = {trial.id for trial in [*(r.trial for r in records), *unfinished] if trial.phase == "repeat"}

    @property
    def planned(self) -> int:
        """Trials of the whole sweep, confirmation included."""
        search = self.space.search
        return sum(rung.wanted + min(search.repeat, rung.wanted) * search.repeat_seeds for rung in self.rungs)

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial; `wait` while running trials decide what comes next, `done` when nothing is left."""
        if self._again:
            return self._again.pop(0)
        below: list[_Rung | None] = [None] * len(KINDS) + list(self.rungs)
        for share in PASSES:
            for before, rung in zip(below, self.rungs, strict=False):
                if rung.may_ask(share, before):
                    return rung.ask(share, before)
        for rung in self.rungs:
            if rung.settled():
                for trial in self._confirmations(rung):
                    if trial.id not in self._confirmed:
                        self._confirmed.add(trial.id)
                        return trial
        return "done" if all(rung.settled() for rung in self.rungs) else "wait"

    def _confirmations(self, rung: _Rung) -> list[Trial]:
        seeds = range(self.space.search.seed + 1, self.space.search.seed + 1 + self.space.search.repeat_seeds)
        return [
            record.trial.model_copy(
                update={
                    "id": f"{record.trial.id}-seed{seed}",
                    "phase": "repeat",
                    "seed": seed,
                    "parameters": {},
                    "repeat_of": record.trial.id,
                }
            )
            for record in rung.best(self.space.search.repeat)
            for seed in seeds
        ]

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended."""
        if record.trial.phase == "search":
            self._rung(record.trial).tell(record)

    def repeated(self, record: Record) -> None:
        """Learn from a proposal that was trained before."""
        self._rung(record.trial).repeated(record)

    def _rung(self, trial: Trial) -> _Rung:
        return next(rung for rung in self.rungs if _belongs(trial, rung.budget, rung.kind))


def _belongs(trial: Trial, budget: Budget, kind: Kind) -> bool:
    return trial.kind == kind and trial.budget == budget
