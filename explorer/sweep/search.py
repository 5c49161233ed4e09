"""Which trial comes next: one Optuna study per budget and kind, budgets climbed from the cheapest. No ray.

The state is rebuilt from the ledger's records, so a sweep that stopped goes on, and one with more trials
is extended, by doing nothing special.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import optuna

from explorer.budget import Budget
from explorer.ledger import KINDS, Kind, Record, Trial
from explorer.sweep.proposal import distributions, first_guess, schedule_for, staging_for
from explorer.sweep.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every study and trial otherwise


class _Rung:
    """The study of one kind of trial at one budget."""

    def __init__(self, space: SearchSpace, budget: Budget, kind: Kind, records: Sequence[Record]) -> None:
        self.space, self.budget, self.kind = space, budget, kind
        self.wanted = space.trials_at(budget, kind)
        self.prefix = f"{budget.slug}-{kind}"
        self.completed: list[Record] = []
        self.running: dict[str, int] = {}
        self.asked = 0
        self._numbers = itertools.count(len(records))
        self._distributions = distributions(space.search, kind)
        sampler = optuna.samplers.TPESampler(
            multivariate=True,
            n_startup_trials=min(10, max(3, self.wanted // 3)),
            # Rungs, and restarts with more records, draw differently: equal seeds would propose the same trials again.
            seed=zlib.crc32(f"{space.search.seed} {self.prefix} {len(records)}".encode()),
            constant_liar=True,
        )
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        for record in records:
            self._remember(record)
        self._first = not records

    def _remember(self, record: Record) -> None:
        completed = record.outcome is not None
        self.asked += 1
        if completed:
            self.completed.append(record)
        self.study.add_trial(
            optuna.trial.create_trial(
                params=record.trial.parameters,
                distributions=self._distributions,
                state=optuna.trial.TrialState.COMPLETE if completed else optuna.trial.TrialState.FAIL,
                value=record.outcome.validation_accuracy if record.outcome else None,
            )
        )

    def ask(self, guesses: Sequence[dict[str, Any]]) -> Trial:
        """The next search trial; `guesses` are tried before anything else the first time."""
        if self._first:
            for guess in guesses:
                self.study.enqueue_trial(guess, skip_if_exists=True)
            self._first = False
        asked = self.study.ask(self._distributions)
        self.asked += 1
        trial = Trial(
            id=f"{self.prefix}-{next(self._numbers):03d}",
            phase="search",
            kind=self.kind,
            budget=str(self.budget),
            schedule=schedule_for(self.space.search, self.kind, asked.params),
            learning_rate=asked.params["learning_rate"],
            batch_size=asked.params["batch_size"],
            seed=self.space.search.seed,
            staging=staging_for(self.space.search, self.kind, asked.params),
            parameters=asked.params,
        )
        self.running[trial.id] = asked.number
        return trial

    def tell(self, record: Record) -> None:
        number = self.running.pop(record.trial.id)
        if record.outcome is None:
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self.completed.append(record)
            self.study.tell(number, record.outcome.validation_accuracy)

    def best(self, count: int) -> list[Record]:
        """The best completed search trials by validation accuracy; among equals the first."""
        ranked = sorted(self.completed, key=_accuracy, reverse=True)
        return ranked[:count]


def _accuracy(record: Record) -> float:
    assert record.outcome is not None
    return record.outcome.validation_accuracy


class Search:
    """Proposes trials and learns from their records.

    Args:
        space: the search space.
        records: what the ledger already holds.
    """

    def __init__(self, space: SearchSpace, records: Sequence[Record] = ()) -> None:
        self.space = space
        self.rungs = [
            _Rung(space, budget, kind, [r for r in records if r.trial.phase == "search" and _belongs(r, budget, kind)])
            for budget in space.budgets
            for kind in KINDS
        ]
        self._confirmed = {r.trial.id for r in records if r.trial.phase == "confirm"}

    @property
    def planned(self) -> int:
        """Trials of the whole sweep, confirmation included."""
        search = self.space.search
        return sum(rung.wanted + min(search.confirm, rung.wanted) * search.confirm_seeds for rung in self.rungs)

    def next(self) -> Trial | Literal["wait", "done"]:
        """The next trial; `wait` while running trials decide what comes next, `done` when nothing is left."""
        below: list[_Rung | None] = [None] * len(KINDS) + list(self.rungs)
        for before, rung in zip(below, self.rungs, strict=False):
            if rung.asked < rung.wanted:
                recipe = self.space.recipe
                guesses = [first_guess(self.space.search, rung.kind, recipe.learning_rate, recipe.batch_size)]
                # Climb: what was best at the budget below is tried first.
                if before is not None:
                    guesses = [record.trial.parameters for record in before.best(1)] + guesses
                return rung.ask(guesses)
        for rung in self.rungs:
            if rung.running:
                continue
            for trial in self._confirmations(rung):
                if trial.id not in self._confirmed:
                    self._confirmed.add(trial.id)
                    return trial
        return "wait" if self.space.search.confirm and any(rung.running for rung in self.rungs) else "done"

    def _confirmations(self, rung: _Rung) -> list[Trial]:
        seeds = range(self.space.search.seed + 1, self.space.search.seed + 1 + self.space.search.confirm_seeds)
        return [
            record.trial.model_copy(
                update={
                    "id": f"{record.trial.id}-seed{seed}",
                    "phase": "confirm",
                    "seed": seed,
                    "parameters": {},
                    "confirms": record.trial.id,
                }
            )
            for record in rung.best(self.space.search.confirm)
            for seed in seeds
        ]

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended."""
        if record.trial.phase == "search":
            rung = next(r for r in self.rungs if _belongs(record, r.budget, r.kind))
            rung.tell(record)


def _belongs(record: Record, budget: Budget, kind: Kind) -> bool:
    return record.trial.kind == kind and record.trial.budget == str(budget)
