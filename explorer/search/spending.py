"""Keeps a search within its spending limit: what is spent, what is reserved, how many trials each rung may have. No ray.

The state follows from the records and the started trials of the ledger alone, so that a sweep that stopped resumes within the
same limit, and one that is given a larger limit is extended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from explorer.errors import InvalidInput
from explorer.ledger import Kind, Record, Trial
from explorer.ledger.spending import Charges
from explorer.search.allocation import (
    ROUNDING,
    BudgetTrials,
    Rule,
    RungState,
    divide,
    divide_again,
)
from explorer.search.limit_plan import (
    MARGIN,
    LimitPlan,
    PlannedSweep,
    Progress,
    States,
    least_limit,
    left_for_goal,
    outstanding,
    plan_limit,
    trials_within,
)
from explorer.search.priced_limit import PricedLimit
from explorer.search.proposal import every_setting, further_choices
from explorer.search.proxy_allocation import FEWEST_BASELINE, FEWEST_STAGED, FROM_PROXY
from explorer.search.rung import Rung
from explorer.spec.budget import Budget
from explorer.spec.metric import ACCURACY
from explorer.spec.provenance import MAX_REACH, MIN_BUDGETS
from explorer.spec.search_space import SearchSpace
from explorer.spec.spending_limit import FIELD
from explorer.spec.trial_counts import KINDS, MIN_TRIALS


class Spending:
    """The spending of one run of a search.

    Args:
        space: the search space.
        priced: its limit.
        records: what the ledger already holds.
        attempts: failed attempts at trials that were, or are, tried again.

    Attributes:
        charges: what has ended, with its cost.
        plan: what the limit has room for, if nothing is shared.
        unaffordable: number of trials of proxies and at that budget that do not fit into what is left; see `reserve`.
        space: the search space with the numbers of trials on proxies.

    Raises:
        InvalidInput: when the limit is below the cheapest useful sweep, or nothing can be said about the budget of
            `search.goal`.
    """

    def __init__(
        self, space: SearchSpace, priced: PricedLimit, records: Sequence[Record] = (), attempts: Sequence[Record] = ()
    ) -> None:
        self.priced, self.unaffordable = priced, 0
        self.costs = [priced.costs[budget] for budget in space.budgets]
        self._sweep = planned_sweep(space, priced)
        self.plan = plan_limit(priced.limit, self._sweep)
        self.on_proxies = list(zip(self.plan.on_proxies, self.plan.proxy_costs, strict=True))
        """The number of trials of each proxy, and their cost if nothing is shared, in full trainings."""
        self.space = space.with_proxy_trials(
            [tuple(count if budget == space.proxy_budget else 0 for budget in space.budgets) for count in self.plan.on_proxies]
        )
        self.charges = Charges(priced.costs, space.store_gb > 0, priced.of_proxies)
        for attempt in attempts:
            self.charges.add_attempt(attempt)
        for record in records:
            self.charges.add(record)
        if not self.plan.is_useful:
            raise self._below_useful()
        if obstacle := self._obstacle(self.plan):
            raise self._out_of_reach(obstacle, records)
        (staged, baseline), rule = self._sweep.states, self.plan.rule
        divided = divide(self.plan.left, *self._candidates(self._sweep.states), rule)
        assert divided is not None
        searched = [
            BudgetTrials(
                cost=cost,
                staged=of_staged,
                baseline=of_baseline,
                repeats=rule.repeats(staged[0], of_staged) + rule.repeats(baseline[0], of_baseline),
            )
            for cost, of_staged, of_baseline in zip(self.costs[: self.plan.candidates], *divided, strict=True)
        ]
        at_goal = BudgetTrials(cost=self.costs[-1], staged=self.plan.verified[0], baseline=self.plan.verified[1], repeats=0)
        self.at_start = searched + [at_goal][: len(self.costs) - self.plan.candidates]
        """Trials of each budget if nothing is shared, which is what the limit guarantees."""

    @property
    def limit(self) -> float:
        """The limit in full trainings."""
        return self.priced.limit

    @property
    def spent(self) -> float:
        """Cost of all trials and attempts that have ended, in full trainings."""
        return self.charges.spent

    @property
    def winners(self) -> int:
        """Number of the best trials of each kind and budget that are repeated."""
        return self.plan.rule.winners

    def status(self) -> str:
        """What is spent and what is left, in the unit of the limit."""
        return self.priced.given.spent_text(self.spent, self.limit)

    def trials_at(self, budget: Budget, kind: str) -> int:
        """Number of search trials at a budget if nothing is shared."""
        trials = self.at_start[self.space.budgets.index(budget)]
        return trials.staged if kind == "staged" else trials.baseline

    def reserve(
        self, rungs: Sequence[Rung], proxies: Sequence[Rung], running: float, repeats_left: Callable[[Rung], int | None]
    ) -> float:
        """Set how many trials proxies and the budget of `search.goal` are to have, as far as they fit into what is left.

        They were planned from the whole limit, of which a sweep that is resumed for another budget or with another limit has
        spent a part. The fewest useful trials at the cheapest budget come before them. Proxies are not trained where they leave
        no room for a training at the goal. The trials of an earlier goal are repeated after them, if there is room.

        Args:
            rungs: of the target, as for `set_trials`.
            proxies: those of all proxies at the budget at which they are compared, from the cheapest proxy up.
            running: upper bound of the cost of what runs, in full trainings.
            repeats_left: as for `set_trials`.

        Returns:
            What those that have not been proposed will cost at most, in full trainings.
        """
        progress = self._progress(rungs, proxies, running, repeats_left)
        left = left_for_goal(self.plan, progress)
        reserved, at_goal = 0.0, rungs[self.plan.candidates * len(KINDS) :]
        outside, lacking = [*proxies, *at_goal], outstanding(self.plan, progress)
        of_first = self.costs[-1] if at_goal and lacking[len(proxies)] and not at_goal[0].asked else 0.0
        self.unaffordable = 0
        for number, (rung, more) in enumerate(zip(outside, lacking, strict=True)):
            room = left - reserved - (of_first if number < len(proxies) else 0.0)
            cost = self.charges.bound(rung.budget, rung.proxy)
            fitting = min(more, max(0, math.floor(room / cost + ROUNDING)))
            rung.wanted = rung.asked + fitting
            reserved += fitting * cost
            self.unaffordable += more - fitting
        for rung in at_goal:
            rung.is_verified = True
        return reserved

    def set_trials(self, rungs: Sequence[Rung], committed: float, repeats_left: Callable[[Rung], int | None]) -> None:
        """Set how many trials each rung is to have, from what is left.

        Args:
            rungs: of all budgets of the target, the kinds of a budget next to each other as in `KINDS`.
            committed: upper bound of the cost of what runs, and of what is reserved besides repeats, in full trainings.
            repeats_left: number of repeats that the best trials of a rung still need; `None` before its first one.
        """
        staged, baseline = self._candidates(self._states(rungs, repeats_left))
        counts = divide_again(self.limit, self.spent + committed, staged, baseline, self.plan.rule)
        for number, rung in enumerate(rungs):
            position, kind = divmod(number, len(KINDS))
            if position < self.plan.candidates:
                rung.wanted = counts[kind][position] if counts else rung.asked

    def affords(self, cost: float, committed: float, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> bool:
        """Whether this much more can be spent on top of what is committed, and of the repeats; see `set_trials`."""
        repeats = self._repeats(self._states(rungs, repeats_left))
        return self.spent + committed + repeats + cost <= self.limit + ROUNDING

    def _repeats(self, states: States) -> float:
        """Cost of the repeats that the trials so far still need."""
        rule = self.plan.rule
        return sum(rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in self._candidates(states))

    def cost_of(self, trial: Trial) -> float:
        """Upper bound of the cost of a trial, in full trainings."""
        return self.charges.bound(trial.budget, trial.proxy)

    @property
    def untrained(self) -> list[Budget]:
        """Budgets at which nothing is trained on the target, if nothing is shared."""
        return [budget for budget, trials in zip(self.space.budgets, self.at_start, strict=True) if not trials.staged]

    @property
    def unsearched(self) -> Budget | None:
        """The budget of `search.goal`, where the limit has no room to search it."""
        return None if self.plan.candidates == len(self.costs) else self.space.budgets[-1]

    @staticmethod
    def at_goal(schedules: int, full_models: int, from_sweeps: int = 0) -> str:
        """What is done at the budget that is not searched, in words, from the numbers of trainings there.

        Args:
            schedules: number of schedules.
            full_models: number of full models.
            from_sweeps: number of winners of earlier sweeps that come first among the schedules.
        """
        if not schedules:
            return "its accuracy is predicted from those below it"
        from_sweeps = min(from_sweeps, schedules)
        best = schedules - from_sweeps
        parts = [f"{from_sweeps} winners of search.from"] if from_sweeps > 1 else ["a winner of search.from"] * from_sweeps
        parts += [f"the best {best} schedules"] if best > 1 else ["the best schedule"] * best
        trained = f"{' and '.join(parts)} {'is' if schedules == 1 else 'are'}"
        return f"{trained} trained there once{', and so is the full model' if full_models else ''}"

    def larger_limit(
        self, rungs: Sequence[Rung], proxies: Sequence[Rung], running: float, repeats_left: Callable[[Rung], int | None]
    ) -> str:
        """What a larger limit would add to a search, in a sentence; see `reserve`."""
        return self._larger_limit(self._progress(rungs, proxies, running, repeats_left))

    def larger_limit_at_start(self) -> str:
        """What a larger limit would add to a sweep that has not begun, in a sentence."""
        costs = [self._sweep.compared * relative for relative in self._sweep.of_proxies]
        return self._larger_limit(Progress(states=self._sweep.states, on_proxies=[RungState(cost=cost) for cost in costs]))

    def _larger_limit(self, progress: Progress) -> str:
        now, pending = trials_within(self.plan, progress)
        if all(now) and len(now) == len(self.costs):
            more = trials_within(self._plan(2 * self.limit), progress)[1] - pending
            if more <= 0:
                return "a larger limit would add nothing: every setting of the search space is tried"
            return f"all budgets are searched; twice the limit would add about {more} trials"

        def added(limit: float) -> list[int]:
            """The budgets that are searched within a larger limit alone."""
            larger, _ = trials_within(self._plan(limit), progress)
            return [place for place, count in enumerate(larger) if count and not any(now[place : place + 1])]

        limit = least_limit(self.limit, lambda limit: bool(added(limit)))
        places, (staged, baseline) = added(limit), progress.states
        of_staged, of_baseline = self._plan(limit).rule.minimum(staged, baseline, places[-1] + 1)
        budgets = [self.space.budgets[place] for place in places]
        names = " and ".join(map(str, budgets))
        budget_or_budgets = "budget" if len(budgets) == 1 else "budgets"
        what = f"search {names} too" if self.unsearched in budgets else f"add the {budget_or_budgets} {names}"
        return (
            f"a limit of {self._rounded_up(limit)} would {what}, with at least {of_staged[places[-1]]} staged and "
            f"{of_baseline[places[-1]]} baseline trials and repeats of the best"
        )

    def _plan(self, limit: float) -> LimitPlan:
        return plan_limit(limit, self._sweep)

    def _rounded_up(self, full_trainings: float) -> str:
        """An amount in the unit of the limit, with a margin for the rounding of its text."""
        return self.priced.text(full_trainings * (1 + MARGIN) + ROUNDING)

    def _candidates(self, states: States) -> tuple[Sequence[RungState], Sequence[RungState]]:
        """The states of each kind at the budgets that may be searched."""
        staged, baseline = (of_kind[: self.plan.candidates] for of_kind in states)
        return staged, baseline

    def _states(self, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> States:
        """The states of the rungs of each kind."""
        return [
            [
                RungState(cost=cost, asked=rung.asked, distinct=rung.distinct, repeats_left=repeats_left(rung))
                for cost, rung in zip(self.costs, rungs[kind :: len(KINDS)], strict=True)
            ]
            for kind in range(len(KINDS))
        ]

    def _recorded(self, records: Sequence[Record]) -> States:
        """The states of the rungs of each kind by the records alone."""
        of_target = Counter((r.trial.budget, r.trial.kind, r.trial.phase) for r in records if r.trial.proxy is None)
        wanted = self.plan.rule.winners * self.plan.rule.seeds

        def state(budget: Budget, kind: Kind, cost: float) -> RungState:
            repeats = of_target[budget, kind, "repeat"]
            return RungState(
                cost=cost, asked=of_target[budget, kind, "search"], repeats_left=max(0, wanted - repeats) if repeats else None
            )

        return [
            [state(budget, kind, cost) for budget, cost in zip(self.space.budgets, self.costs, strict=True)] for kind in KINDS
        ]

    def _progress(
        self, rungs: Sequence[Rung], proxies: Sequence[Rung], running: float, repeats_left: Callable[[Rung], int | None]
    ) -> Progress:
        """What the sweep has done so far; see `reserve`."""
        on_proxies = [
            RungState(cost=self.charges.bound(rung.budget, rung.proxy), asked=rung.asked, distinct=rung.distinct)
            for rung in proxies
        ]
        return Progress(states=self._states(rungs, repeats_left), on_proxies=on_proxies, spent=self.spent + running)

    def _obstacle(self, plan: LimitPlan) -> str | None:
        """Why the accuracy at the budget of `search.goal` would neither be measured nor predicted; `None` if it is."""
        if plan.candidates == len(self.costs) or any(plan.verified):
            return None
        largest, given = self.space.budgets[plan.searched - 1], self.priced.given
        if (metric := self.space.task.objective.metric) != ACCURACY.name:
            return f"cannot be trained within {given}, and {metric} cannot be predicted there"
        if plan.searched < MIN_BUDGETS:
            return (
                f"cannot be trained within {given}, which have room to search {largest} alone; its accuracy is predicted from "
                f"at least {MIN_BUDGETS} budgets"
            )
        if self.costs[-1] > MAX_REACH * self.costs[plan.searched - 1]:
            return (
                f"is more than {MAX_REACH:g} times {largest}, the largest budget that {given} have room to search, so that "
                "nothing can be said about it"
            )
        return None

    def _out_of_reach(self, obstacle: str, records: Sequence[Record]) -> InvalidInput:
        progress = Progress(states=self._recorded(records), on_proxies=[], spent=self.spent)

        def trains_goal(limit: float) -> bool:
            plan = self._plan(limit)
            if not plan.is_useful or not (any(plan.verified) or plan.candidates == len(self.costs)):
                return False
            return left_for_goal(plan, progress) >= self.costs[-1]

        enough = least_limit(self.limit, trains_goal)
        has_spent = f", of which {self.priced.text(self.spent)} are spent," if self.spent else ""
        reason = f"{obstacle}; search.spend of {self._rounded_up(enough)}{has_spent} would have room to train it there once"
        return InvalidInput("search.goal", str(self.space.search.goal), reason)

    def _below_useful(self) -> InvalidInput:
        def is_useful(limit: float) -> bool:
            plan = self._plan(limit)
            return plan.is_useful and self._obstacle(plan) is None

        limit = least_limit(self.limit, is_useful)
        plan, (staged, baseline), budgets = self._plan(limit), self._sweep.states, self.space.budgets
        fewest = list(zip(*plan.rule.minimum(staged, baseline, plan.searched), strict=True))[: plan.searched]
        trials = " and ".join(
            f"{of_staged} staged and {of_baseline} baseline trials at {budget}, each of at most {self.priced.text(cost)},"
            for (of_staged, of_baseline), budget, cost in zip(fewest, budgets, self.costs, strict=False)
        )
        repeats = sum(plan.rule.repeats(staged[0], each) + plan.rule.repeats(baseline[0], other) for each, other in fewest)
        goal = "" if plan.candidates == len(budgets) else f"; {budgets[-1]} is not searched: {self.at_goal(*plan.verified)}"
        proxies = f", and {MIN_TRIALS} trials of each proxy at {self.space.proxy_budget}" if self.on_proxies else ""
        return InvalidInput(
            FIELD,
            str(self.priced.given),
            f"must be at least {self._rounded_up(limit)}, the cheapest useful sweep: {trials} and the best of each kind again "
            f"with {plan.rule.seeds} fresh seeds ({repeats} repeats){proxies}{goal}; a cheaper first budget or fewer "
            "search.repeat_seeds need less",
        )


def planned_sweep(space: SearchSpace, priced: PricedLimit) -> PlannedSweep:
    """What the division of a limit follows from in a search space."""
    search, further = space.search, further_choices(space.search)
    rule = Rule(
        winners=max(1, search.repeat),
        seeds=space.seeds_at(space.budgets[0]),
        first=len(search.first),
        cheapest_baseline=1 + further,
    )
    if search.goal is not None:
        rule = replace(rule, fewest_staged=FEWEST_STAGED, fewest_baseline=FEWEST_BASELINE, cheapest_staged=FROM_PROXY + further)
    settings = [every_setting(search, kind) for kind in KINDS]
    distinct = [None if each is None else len(each) for each in settings]
    return PlannedSweep(
        states=[[RungState(cost=priced.costs[budget], distinct=number) for budget in space.budgets] for number in distinct],
        rule=rule,
        has_goal=search.goal is not None,
        compared=priced.costs[space.proxy_budget],
        of_proxies=tuple(priced.of_proxies),
    )
