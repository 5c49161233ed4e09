"""Which trial comes next: first of the proxies, the cheapest first, then of the target. No ray.

The state is rebuilt from the ledger's records, so a sweep that stopped resumes, and a sweep with more trials is extended,
without special treatment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.ledger import KINDS, Record, Trial
from explorer.ledger.earlier_sweeps import EarlierSweep
from explorer.search.allocation import ROUNDING
from explorer.search.ladder import Ladder
from explorer.search.proposer import Status
from explorer.search.rung import Rung
from explorer.search.spending import Spending
from explorer.search.warm_starts import warm_starts
from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable


class Search:
    """Proposes trials and learns from their records.

    Args:
        space: the search space.
        records: what the ledger already holds.
        unfinished: trials that were started before and have no record; they come first.
        table: the sweep's step times, which a sweep in device-seconds needs.
        spending: keeps the search within a spending limit; `None` for as many trials as the space says. It knows the records.
        earlier_sweeps: the sweeps of `search.from`, whose winners are tried first.

    Attributes:
        warm_starts: those winners, as trials of this search.
        proxies: the studies of each proxy, from the cheapest up.
        target: the studies of the sweep's own task.
        rungs: those studies, by budget and kind.
    """

    def __init__(
        self,
        space: SearchSpace,
        records: Sequence[Record] = (),
        unfinished: Sequence[Trial] = (),
        table: StepTimeTable | None = None,
        spending: Spending | None = None,
        earlier_sweeps: Sequence[EarlierSweep] = (),
    ) -> None:
        space = space if spending is None else spending.space
        self.space, self.spending = space, spending
        untrained = spending.untrained if spending else ()
        self.warm_starts = warm_starts(space, earlier_sweeps, table, untrained=untrained)
        self.proxies = [
            Ladder(
                space.proxy_space(number),
                records,
                unfinished,
                table,
                proxy=number,
                warm_starts=self.warm_starts.on_proxy if number == 1 else (),
            )
            for number in range(1, len(space.proxy) + 1)
        ]
        self.target = Ladder(space, records, unfinished, table, spending=spending, warm_starts=self.warm_starts.on_target)
        self.rungs = self.target.rungs
        self._unfinished = list(unfinished)
        self._running_repeats = {trial.id: trial for trial in unfinished if trial.phase == "repeat"}
        proposed = (*(record.trial for record in records), *unfinished)
        self._proposed_repeats = {trial.id for trial in proposed if trial.phase == "repeat"}

    @property
    def planned(self) -> int:
        """Number of trials of the whole sweep, repeats with fresh seeds included.

        It falls where fewer trials than `search.repeat` succeeded: failed trials are not repeated. It rises where a trial that
        was tried again turned out to be better than one that was repeated before. A sweep is complete when it has as many
        records. Within a spending limit, it changes with what is left.
        """
        return sum(self.trials.values()) + sum(ladder.planned for ladder in self.proxies)

    @property
    def trials(self) -> dict[Budget, int]:
        """Number of trials of the target at each budget that are planned now, repeats included."""
        self._set_trials()
        counts = dict.fromkeys(self.space.budgets, 0)
        for rung in self.rungs:
            counts[rung.budget] += max(rung.wanted, rung.asked) + self._planned_repeats(rung)
        return counts

    def next(self) -> Trial | Status:
        """The next trial, or why there is none.

        Each task waits for the proxy before it. In the meantime, places that are free train the baseline of the target.
        """
        if self._unfinished:
            return self._unfinished.pop(0)
        self._set_trials()
        below: Ladder | None = None
        for ladder in (*self.proxies, self.target):
            if below is not None:
                ladder.promote_from(below)
            if trial := ladder.next():
                return trial
            if ladder is not self.target and not ladder.is_settled:
                return self.target.next(("baseline",)) or Status.WAIT
            below = ladder
        if trial := self._next_repeat():
            return trial
        if self.spending and self._running_repeats:
            return Status.WAIT  # what they leave may be enough for more trials
        return Status.FINISHED if self.target.is_settled else Status.WAIT

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended."""
        if self.spending:
            self.spending.charges.add(record)
        if record.trial.phase == "search":
            self._rung(record.trial).tell(record)
        self._running_repeats.pop(record.trial.id, None)

    def attempt_failed(self, record: Record) -> None:
        """An attempt at a trial that is tried again has failed: it counts as spent."""
        if self.spending:
            self.spending.charges.add_attempt(record)

    def affords_another_attempt(self, record: Record) -> bool:
        """Whether a trial whose attempt has just failed can be tried again within the spending limit."""
        if self.spending is None:
            return True
        lost = self.spending.charges.of_attempt(record)
        return self.spending.affords(lost, self._commit(), self.rungs, self._repeats_left)

    def affordable_retries(self, records: Sequence[Record]) -> list[Record]:
        """Those failed trials of the search that can be tried again within the spending limit, in their order."""
        if self.spending is None:
            return list(records)
        affordable, cost, committed = [], 0.0, self._commit()
        for record in records:  # a trial that is not tried again is charged in full; tried again, it is so in the end
            more = self.spending.charges.of_attempt(record)
            if record.failure == "place" and not record.plan:
                more += self.spending.cost_of(record.trial)
            if self.spending.affords(cost + more, committed, self.rungs, self._repeats_left):
                affordable.append(record)
                cost += more
        return affordable

    @property
    def allocated_space(self) -> SearchSpace:
        """The search space with the numbers of trials that the spending limit allows now, in place of the limit.

        It has a goal only where that is not searched, so that what is trained there is not repeated.
        """
        if self.spending is None:
            return self.space
        self._set_trials()
        counts = {budget: [0] * len(KINDS) for budget in self.space.budgets}
        for rung in self.rungs:
            counts[rung.budget][KINDS.index(rung.kind)] = max(rung.wanted, rung.asked)
        compared = self.space.proxy_budget if self.proxies else None  # proxies are trained there, even if the target is not
        kept = {budget: of_kinds for budget, of_kinds in counts.items() if any(of_kinds) or budget == compared}
        staged, baseline = (tuple(of_kinds[kind] for of_kinds in kept.values()) for kind in range(len(KINDS)))
        changes: dict[str, Any] = {"trials": staged, "baseline_trials": baseline, "repeat": self.spending.winners}
        changes["repeat_seeds"] = self.space.seeds_at(self.space.budgets[0])
        changes |= {"spend": None, "goal": self.spending.unsearched if self.spending.unsearched in kept else None}
        on_proxies = [tuple(count if budget == compared else 0 for budget in kept) for count, _ in self.spending.on_proxies]
        search = self.space.search.model_copy(update=changes)
        allocated = self.space.model_copy(update={"budgets": tuple(kept), "search": search})
        return allocated.with_proxy_trials(on_proxies)

    @property
    def unaffordable_repeats(self) -> int:
        """Number of repeats of the best trials that do not fit into what is left of the limit."""
        if self.spending is None:
            return 0
        return sum(self._repeats_left(rung, default=len(self._repeats(rung))) or 0 for rung in self.rungs)

    @property
    def untried_warm_starts(self) -> int:
        """Number of warm starts that have not been tried; once the search has ended, there was no place for them."""
        return sum(len(rung.warm_starts) for ladder in (*self.proxies, self.target) for rung in ladder.rungs)

    def limit_lines(self) -> list[str]:
        """How the spending limit is divided now, in lines; none without a limit."""
        if self.spending is None:
            return []
        space = self.allocated_space
        shares = [
            f"{budget} ({space.trials_at(budget, 'staged')} staged, {space.trials_at(budget, 'baseline')} baseline)"
            for budget in space.budgets
            if budget != self.spending.unsearched
        ]
        proxies = [f"proxy {ladder.proxy} ({ladder.planned} trials)" for ladder in self.proxies]
        lines = [
            f"spending limit {self.spending.priced.given}: {', '.join([*proxies, *shares])}, and repeats of the best "
            f"{self.spending.winners} of each kind with {space.seeds_at(space.budgets[0])} fresh seeds"
        ]
        if goal := self.spending.unsearched:
            staged, baseline = (max(rung.wanted, rung.asked) for rung in self.rungs if rung.budget == goal)
            winners = sum(start.budget == goal and start.tuned is not None for start in self.warm_starts.on_target)
            lines.append(f"{goal} is not searched: {self.spending.at_goal(staged, baseline, winners)}")
        if self.spending.unaffordable:
            lacking = f"{self.spending.unaffordable} trials on proxies or at {self.space.budgets[-1]}"
            lines.append(f"{lacking} do not fit into what is left of the limit ({self.spending.status()})")
        if self.space.search.trials is not None or self.space.search.baseline_trials is not None:
            lines.append("the spending limit decides: search.trials and search.baseline_trials are for --plan exhaustive")
        return lines

    def spent_lines(self) -> list[str]:
        """What was spent of the limit and what a larger one would add, in lines; none without a limit."""
        if self.spending is None:
            return []
        larger = self.spending.larger_limit(self.rungs, self._compared, self._running_cost, self._repeats_left)
        lines = [f"{self.spending.status()}; {larger}"]
        if lacking := self.unaffordable_repeats:
            lines.insert(0, f"{lacking} repeats of the best trials do not fit into what is left of the limit")
        return lines

    def _next_repeat(self) -> Trial | None:
        """The next repeat of one of the best trials.

        Within a spending limit, repeats wait for the search trials of all rungs: what these leave is spent on more of them.
        """
        if self.spending and not self.target.is_settled:
            return None
        for rung in self.rungs:
            if rung.settled():
                for trial in self._repeats(rung):
                    if trial.id not in self._proposed_repeats and self._affords_repeat(trial):
                        self._proposed_repeats.add(trial.id)
                        self._running_repeats[trial.id] = trial
                        return trial
        return None

    def _affords_repeat(self, trial: Trial) -> bool:
        """Whether a repeat fits into what is left; it was reserved, and lacks only where attempts failed."""
        if self.spending is None:
            return True
        return self.spending.spent + self._running_cost + self.spending.cost_of(trial) <= self.spending.limit + ROUNDING

    def _set_trials(self) -> None:
        if self.spending:
            self.spending.set_trials(self.rungs, self._commit(), self._repeats_left)

    def _commit(self) -> float:
        """Reserve what proxies' trials to come and those at the budget of `search.goal` need, as far as it is left.

        Returns:
            Upper bound of the cost of these and of what runs, in full trainings.
        """
        assert self.spending is not None
        running = self._running_cost
        return running + self.spending.reserve(self.rungs, self._compared, running, self._repeats_left)

    @property
    def _compared(self) -> list[Rung]:
        """The studies of all proxies at the budget at which they compare schedules within a spending limit."""
        return [rung for ladder in self.proxies for rung in ladder.rungs if rung.budget == self.space.proxy_budget]

    @property
    def _running_cost(self) -> float:
        """Upper bound of the cost of the trials that have been proposed and have not ended, in full trainings."""
        assert self.spending is not None
        searched = [rung for ladder in (*self.proxies, self.target) for rung in ladder.rungs]
        searching = sum(len(rung.running) * self.spending.charges.bound(rung.budget, rung.proxy) for rung in searched)
        return searching + sum(self.spending.cost_of(trial) for trial in self._running_repeats.values())

    def _repeats_left(self, rung: Rung, default: int | None = None) -> int | None:
        """Number of repeats that the best trials of a rung still need; `default` before the first repeat."""
        if not any(name.startswith(f"{rung.prefix}-") for name in self._proposed_repeats):
            return default
        return sum(trial.id not in self._proposed_repeats for trial in self._repeats(rung))

    def deduplicated(self, trial: Trial, record: Record) -> None:
        """Learn that a proposal is the same training as the trial of an earlier record."""
        self._rung(trial).deduplicated(trial, record)

    def _planned_repeats(self, rung: Rung) -> int:
        """Number of repeats of a rung: those that were proposed, and those that are or will be."""
        proposed = {name for name in self._proposed_repeats if name.startswith(f"{rung.prefix}-")}
        if rung.settled():
            return len(proposed.union(trial.id for trial in self._repeats(rung)))
        return max(len(proposed), min(self._winners_of(rung), rung.wanted) * self.space.seeds_at(rung.budget))

    def _winners_of(self, rung: Rung) -> int:
        """Number of the best trials of a rung that are repeated."""
        if rung.is_verified:
            return 0
        return self.spending.winners if self.spending else self.space.search.repeat

    def _repeats(self, rung: Rung) -> list[Trial]:
        """The best trials of a rung with fresh seeds."""
        search = self.space.search
        seeds = range(search.seed + 1, search.seed + 1 + self.space.seeds_at(rung.budget))
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
            for record in rung.best(self._winners_of(rung))
            for seed in seeds
        ]

    def _rung(self, trial: Trial) -> Rung:
        ladder = self.target if trial.proxy is None else self.proxies[trial.proxy - 1]
        return ladder.rung_of(trial)
