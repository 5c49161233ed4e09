"""One Optuna study: the trials of one kind at one budget. Rebuilt from the ledger's records."""

from __future__ import annotations

import itertools
import math
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from explorer.ledger import Kind, OtherTrial, Outcome, Record, Trial
from explorer.ledger.records import FromProxy
from explorer.search.known_schedules import KnownSchedule
from explorer.search.passes import ALL, Pass
from explorer.search.promotion import FromProxySchedule
from explorer.search.proposal import (
    distributions,
    every_setting,
    first_guesses,
    learning_rate_for,
    neighbours,
    optimization_variables,
    proxy_guesses,
    schedule_for,
    schedule_variables,
    staging_for,
    untried_choices,
    variables_at_larger_budget,
    variables_of,
)
from explorer.search.samplers import StudySettings, make_sampler
from explorer.search.warm_starts import WarmStart
from explorer.spec.budget import Budget
from explorer.spec.rates import Rates
from explorer.spec.search_space import SearchSpace
from explorer.spec.trial_counts import MIN_TRIALS

MAX_DUPLICATES = 10
"""After more consecutive duplicates, proposals no longer come from the sampler: they are drawn from what is left."""
EXHAUSTED_AFTER = 200
"""After this number of consecutive duplicates, the space counts as exhausted."""


def rung_name(budget: Budget, kind: Kind, proxy: int | None) -> str:
    """Name of a study, with which the ids of its trials begin: `25pct-staged`, `proxy1-25pct-staged`."""
    return f"{'' if proxy is None else f'proxy{proxy}-'}{budget.slug}-{kind}"


class Rung:
    """The study of one kind of trial at one budget.

    Args:
        space: the search space.
        budget: one of its budgets.
        kind: kind of trial.
        records: search records of this kind and budget.
        unfinished: search trials of this kind and budget that were started before and have no record.
        trials: number of trials that are expected, in place of that of the space.
        known_schedules: schedules that are tried before all others.
        step_cost: Cost of a training step at requested rates, in the sweep's currency, for samplers that ask for it.
        proxy: number of the proxy that is trained; `None` for the target.
        warm_starts: schedules of earlier sweeps that are tried at this budget, after the known schedules.

    Attributes:
        wanted: number of trials; at most the number of distinct settings, where that is finite. A spending limit changes it
            while the search runs.
        distinct: number of distinct settings; `None` while it is not known.
        asked: number of trials that were proposed, running ones included.
        running: study numbers of the running trials, by trial id; `None` for a known schedule that is not in the study.
        completed: records with an outcome.
        from_proxy: schedules of a proxy that are to be tried.
        warm_starts: schedules of earlier sweeps that are to be tried.
        is_verified: whether the budget is not searched: a few schedules are trained there, winners of earlier sweeps with their
            settings and those of a proxy first.
        is_tuned: whether learning rate and batch size of the best trial so far are varied before anything else is tried at the
            cheapest budget, as at the others, and every learning-rate schedule and optimizer of the search before those.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        kind: Kind,
        records: Sequence[Record],
        unfinished: Sequence[Trial],
        *,
        trials: int | None = None,
        known_schedules: Sequence[KnownSchedule] = (),
        step_cost: Callable[[Rates], int] | None = None,
        proxy: int | None = None,
        warm_starts: Sequence[WarmStart] = (),
    ) -> None:
        self.space, self.budget, self.kind, self.proxy = space, budget, kind, proxy
        self._search = space.search_at(budget)
        self._every_setting = every_setting(self._search, kind)
        trials = space.trials_at(budget, kind) if trials is None else trials
        self.distinct = None if self._every_setting is None else len(self._every_setting)
        self.wanted = trials if self.distinct is None else min(trials, self.distinct)
        self.prefix = rung_name(budget, kind, proxy)
        self.completed: list[Record] = []
        self.running: dict[str, int | None] = {}
        self.asked = 0
        self.from_proxy: list[FromProxySchedule] = []
        self.is_verified = False
        self.is_tuned = bool(space.proxy) and space.search.goal is not None and budget == space.budgets[0]
        self._promoted_in = -1  # number of the last pass
        self._consecutive_duplicates = 0
        trials_before = [*(record.trial for record in records), *unfinished]
        known = [int(trial.id.rsplit("-", 1)[1]) for trial in trials_before]
        self._numbers = itertools.count(1 + max(known, default=-1))
        self._distributions = distributions(space.search, kind)
        # Rungs, and restarts with more records, draw differently: equal seeds would propose the same trials again.
        seed = zlib.crc32(f"{space.search.seed} {self.prefix} {len(known)}".encode())
        objectives = 1 + (space.search.minimize is not None)
        settings = StudySettings(
            seed=seed,
            trials=trials,
            objectives=objectives,
            search=space.search if kind == "staged" else None,
            step_cost=step_cost if kind == "staged" else None,
        )
        self._sampler = make_sampler(space.search.sampler, settings)
        self._random_sampler = optuna.samplers.RandomSampler(seed=seed)
        self._random = random.Random(seed)
        self.study = optuna.create_study(
            directions=["maximize", "minimize"][:objectives], sampler=self._sampler, study_name=f"{space.name} {self.prefix}"
        )
        for record in records:
            self._add(record)
        for trial in unfinished:
            self.running[trial.id] = None
            if not trial.is_outside_the_space:
                self.study.enqueue_trial(trial.parameters)
                self.running[trial.id] = self.study.ask(self._distributions).number
            self.asked += 1
        if proxy is None:
            first = first_guesses(space.search, kind, space.task.recipe, space.currency)
        else:
            first = proxy_guesses(space.search, space.task.recipe)
        self._first_guess, self._guesses = first[0], first
        self._from_below: list[dict[str, Any]] = []
        tried = {trial.known_schedule for trial in trials_before}
        self._known_schedules = [each for each in known_schedules if kind == "staged" and each.name not in tried]
        origins = [trial.from_sweep for trial in trials_before]
        self.warm_starts = [each for each in warm_starts if kind == "staged" and each.origin not in origins]

    def holds(self, trial: Trial) -> bool:
        """True for trials of this kind, budget and task."""
        return (trial.kind, trial.budget, trial.proxy) == (self.kind, self.budget, self.proxy)

    def goal(self, until: Pass) -> int:
        """Number of trials up to the end of a pass."""
        trials = min(self.wanted, max(MIN_TRIALS, math.ceil(until.share * self.wanted)))
        return trials if until.at_most is None or self.budget == self.space.budgets[0] else min(trials, until.at_most)

    def settled(self, until: Pass = ALL) -> bool:
        """True when the trials up to the end of a pass have ended."""
        return self.asked - len(self.running) >= self.goal(until)

    def has_place(self, until: Pass, below: Rung | None) -> bool:
        """True when a pass has a place for a trial now.

        The last places of a pass are kept for the best trials of the budget below until these are known, and for the schedules
        of a proxy, which take their learning rate and batch size from there. Known schedules and warm starts do not wait for
        them.
        """
        places = self.goal(until) - self.asked
        if self.is_verified:
            return places > 0 and until == ALL and (below is None or below.settled())
        if places <= 0 or below is None or self._known_schedules or self.warm_starts:
            return places > 0
        kept = self.space.search.promote + len(self.from_proxy)
        return self._promoted_in >= until.number or below.settled(until) or places > kept

    def ask(self, until: Pass, below: Rung | None) -> Trial:
        """The next search trial: known schedules, warm starts, then in each pass the best trials of the budget below and the
        schedules of a proxy, then the best one with other settings of the optimization, then what is new.

        Args:
            until: the pass.
            below: the rung of the same kind at the next lower budget.
        """
        if below is not None and self._promoted_in < until.number and below.settled(until):
            self._promoted_in = until.number
            self._from_below[:0] = [self._promoted(trial) for trial in below.best_in_study()[: self.space.search.promote]]
        if self._known_schedules and not self.is_verified:  # there, the best of what was compared at cheaper budgets is trained
            return self._ask_known(self._known_schedules.pop(0))
        if trial := self._ask_warm_start(below):
            return trial
        reason = None
        values = None if self.is_verified and self.from_proxy else self._next_guess(self._from_below)
        if values is None and (below is None or self._promoted_in >= 0):
            values, reason = self._next_from_proxy(below)
        values = values or self._next_guess(self._from_below) or self._next_tuned(below) or self._next_guess(self._guesses)
        if values := values or self._next_untried():
            self.study.enqueue_trial(values)
        self.study.sampler = self._random_sampler if self._consecutive_duplicates > MAX_DUPLICATES else self._sampler
        asked = self.study.ask(self._distributions)
        return self._started(asked.params, asked.number, from_proxy=reason)

    def _promoted(self, trial: Trial) -> dict[str, Any]:
        """The values with which a trial of the budget below is tried here."""
        if self._search.durations_of == "budget" or self.kind == "baseline":
            return trial.parameters
        return {**trial.parameters, **variables_at_larger_budget(self._search, trial.schedule)}

    def _ask_known(self, known: KnownSchedule) -> Trial:
        """The trial of a known schedule, with the learning rate and batch size of the first guess.

        It is a trial of the study if the study's variables can stand for it, so that the sampler learns from it.
        """
        if known.variables is None or variables_of(self._search, known.schedule) is None:
            return self._started(self._first_guess, None, known)
        self.study.enqueue_trial({**self._first_guess, **known.variables})
        asked = self.study.ask(self._distributions)
        return self._started(asked.params, asked.number, known)

    def _ask_warm_start(self, below: Rung | None) -> Trial | None:
        """The trial of the next schedule of an earlier sweep that was not tried yet; `None` if there is none.

        Its learning rate and batch size are those of its sweep if that trained the same task. Otherwise they are those of the
        best trial of the budget below so far, or of the first guess, and budgets that are not searched leave it out.
        """
        tried = self._tried() if self.warm_starts else []
        for start in [each for each in self.warm_starts if each.tuned is not None or not self.is_verified]:
            self.warm_starts.remove(start)
            best = below.best_in_study() if below is not None else []
            tuned = start.tuned or optimization_variables(best[0].parameters if best else self._first_guess)
            values = {**tuned, **start.variables}
            if values not in tried:
                self.study.enqueue_trial(values)
                asked = self.study.ask(self._distributions)
                return self._started(asked.params, asked.number, from_sweep=start.origin)
        return None

    def _started(
        self,
        values: dict[str, Any],
        number: int | None,
        known: KnownSchedule | None = None,
        from_proxy: FromProxy | None = None,
        from_sweep: OtherTrial | None = None,
    ) -> Trial:
        """A trial with the values of the study's variables; the schedule is the known one if there is one."""
        search = self._search
        staging = staging_for(search, self.kind, values)
        trial = Trial(
            id=f"{self.prefix}-{next(self._numbers):03d}",
            phase="search",
            kind=self.kind,
            budget=self.budget,
            schedule=known.schedule if known and number is None else schedule_for(search, self.kind, values),
            learning_rate=learning_rate_for(search, values),
            batch_size=values["batch_size"],
            seed=search.seed,
            staging={**staging, **known.schedule.staging} if known else staging,
            lr_schedule=values.get("lr_schedule"),
            optimizer=search.optimizer_for(values.get("optimizer"), self.space.task.recipe.weight_decay),
            known_schedule=known.name if known else None,
            parameters={} if number is None else values,
            proxy=self.proxy,
            from_proxy=from_proxy,
            from_sweep=from_sweep,
        )
        self.asked += 1
        self.running[trial.id] = number
        return trial

    def tell(self, record: Record) -> None:
        """Learn from a trial that ended."""
        self._consecutive_duplicates = 0
        self._tell(record.trial, record.outcome)
        if record.outcome:
            self.completed.append(record)

    def deduplicated(self, trial: Trial, record: Record) -> None:
        """Learn that a proposal is the same training as the trial of an earlier record; it does not count as a trial."""
        self._tell(trial, record.outcome)
        self.asked -= 1
        self._consecutive_duplicates += 1
        if self._consecutive_duplicates >= EXHAUSTED_AFTER:
            self.distinct = self.wanted = self.asked

    def best(self, count: int) -> list[Record]:
        """The best completed search trials on validation images; among equals, the first.

        With a second objective, trials that no other trial beats in both objectives come first.
        """
        ranked = sorted(self.completed, key=lambda record: self._values(record)[0], reverse=True)
        if self.space.search.minimize:
            lowest, dominated = float("inf"), []
            for record in ranked:
                value = self._values(record)[1]
                dominated.append(value >= lowest)
                lowest = min(lowest, value)
            ranked = [record for _, record in sorted(zip(dominated, ranked, strict=True), key=lambda pair: pair[0])]
        return ranked[:count]

    def best_in_study(self) -> list[Trial]:
        """The completed trials whose values the study's variables have, the best first."""
        return [record.trial for record in self.best(len(self.completed)) if not record.trial.is_outside_the_space]

    def _next_guess(self, guesses: list[dict[str, Any]]) -> dict[str, Any] | None:
        tried = self._tried() if guesses else []
        while guesses:
            guess = guesses.pop(0)
            if guess not in tried:
                return guess
        return None

    def _next_from_proxy(self, below: Rung | None) -> tuple[dict[str, Any] | None, FromProxy | None]:
        """The next schedule of a proxy that was not tried yet, with the learning rate and batch size of the best trial of the
        budget below; at the cheapest budget with those of the first guess."""
        tried = [schedule_variables(values) for values in self._tried()] if self.from_proxy else []
        while self.from_proxy:
            proposed = self.from_proxy.pop(0)
            if proposed.variables not in tried:
                best = below.best_in_study() if below is not None else []
                tuned = optimization_variables(best[0].parameters if best else self._first_guess)
                return {**tuned, **proposed.variables}, proposed.reason
        return None, None

    def _next_tuned(self, below: Rung | None) -> dict[str, Any] | None:
        """The best trial so far, or the first guess, with another learning rate or batch size that was not tried with it.

        Above the cheapest budget always: what is best there is known from below, but for how long a training with which rate is
        not. At the cheapest budget, learning-rate schedules and optimizers that no trial has had come first.
        """
        tried = self._tried() if self.is_tuned or below is not None else []
        if not tried:
            return None
        best, search = self.best_in_study(), self.space.search
        values = best[0].parameters if best else tried[0]
        choices = untried_choices(search, values, tried) if self.is_tuned else []
        return next((each for each in choices + neighbours(search, values) if each not in tried), None)

    def _next_untried(self) -> dict[str, Any] | None:
        """One of the untried settings, where they can be counted and the sampler proposes only what was tried already."""
        if self._every_setting is None or self._consecutive_duplicates <= MAX_DUPLICATES:
            return None
        tried = self._tried()
        untried = [setting for setting in self._every_setting if setting not in tried]
        return self._random.choice(untried) if untried else None

    def _tried(self) -> list[dict[str, Any]]:
        return [trial.params for trial in self.study.get_trials(deepcopy=False)]

    def _add(self, record: Record) -> None:
        self.asked += 1
        if record.outcome:
            self.completed.append(record)
        if record.trial.is_outside_the_space:
            return
        state = optuna.trial.TrialState.COMPLETE if record.outcome else optuna.trial.TrialState.FAIL
        self.study.add_trial(
            optuna.trial.create_trial(
                params=record.trial.parameters,
                distributions=self._distributions,
                state=state,
                values=self._values(record) if record.outcome else None,
            )
        )

    def _tell(self, trial: Trial, outcome: Outcome | None) -> None:
        number = self.running.pop(trial.id)
        if number is None:
            return
        if outcome is None:
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(number, objective_values(self.space, outcome))

    def _values(self, record: Record) -> list[float]:
        assert record.outcome is not None
        return objective_values(self.space, record.outcome)


def objective_values(space: SearchSpace, outcome: Outcome) -> list[float]:
    """What a study is told: the score on validation images, and the second objective where the space has one."""
    minimize = space.search.minimize
    return [outcome.validation_score] + ([float(getattr(outcome, minimize) or 0)] if minimize else [])
