"""Keeps a search within its spending limit: what is spent, what is reserved, how many trials each rung may have. No ray.

The state follows from the records and the started trials of the ledger alone, so that a sweep that stopped resumes within the
same limit, and one that is given a larger limit is extended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from explorer.errors import InvalidInput
from explorer.ledger import Record, Trial
from explorer.ledger.spending import Charges
from explorer.search.allocation import (
    CONTINGENCY,
    MAX_UNSPENT,
    ROUNDING,
    BudgetTrials,
    Rule,
    RungState,
    affordable_budgets,
    affordable_winners,
    divide,
)
from explorer.search.priced_limit import PricedLimit
from explorer.search.proposal import every_setting, further_choices
from explorer.search.proxy_allocation import (
    FEWEST_BASELINE,
    FEWEST_STAGED,
    FROM_PROXY,
    MAX_PROXY_SHARE,
    least_limit,
    proxy_costs_of,
    proxy_trials,
    verified_trainings,
)
from explorer.search.rung import Rung
from explorer.spec.budget import Budget
from explorer.spec.metric import ACCURACY
from explorer.spec.provenance import MAX_REACH, MIN_BUDGETS
from explorer.spec.search_space import SearchSpace
from explorer.spec.spending_limit import FIELD
from explorer.spec.trial_counts import KINDS, MIN_TRIALS

ROUNDED_UP = 0.0005
"""Relative margin for the rounding of the text of a limit, which has four digits."""


class Spending:
    """The spending of one run of a search.

    Args:
        space: the search space.
        priced: its limit.
        records: what the ledger already holds.
        attempts: failed attempts at trials that were, or are, tried again.

    Attributes:
        charges: what has ended, with its cost.
        winners: number of the best trials of each kind and budget that are repeated.
        verified: numbers of schedules and of full models that are trained at the budget of `search.goal`, where it is not
            searched.
        unaffordable: number of trials of proxies and at that budget that do not fit into what is left; see `reserve`.
        space: the search space with the numbers of trials on proxies.

    Raises:
        InvalidInput: when the limit is below the cheapest useful sweep.
    """

    def __init__(
        self, space: SearchSpace, priced: PricedLimit, records: Sequence[Record] = (), attempts: Sequence[Record] = ()
    ) -> None:
        self.priced, self.verified, self.unaffordable = priced, (0, 0), 0
        self.costs = [priced.costs[budget] for budget in space.budgets]
        compared = priced.costs[space.proxy_budget]
        trials = proxy_trials(priced.limit, compared, priced.of_proxies)
        self.on_proxies = list(zip(trials, proxy_costs_of(trials, compared, priced.of_proxies), strict=True))
        """The number of trials of each proxy, and their cost if nothing is shared, in full trainings."""
        self._on_proxies = sum(cost for _, cost in self.on_proxies)
        self.space = space.with_proxy_trials(
            [tuple(count if budget == space.proxy_budget else 0 for budget in space.budgets) for count in trials]
        )
        self.charges = Charges(priced.costs, space.store_gb > 0, priced.of_proxies)
        for attempt in attempts:
            self.charges.add_attempt(attempt)
        for record in records:
            self.charges.add(record)
        search = space.search
        further = further_choices(search)
        rule = Rule(
            winners=max(1, search.repeat),
            seeds=space.seeds_at(space.budgets[0]),
            first=len(search.first),
            cheapest_baseline=1 + further,
        )
        if search.goal is not None:
            rule = replace(
                rule, fewest_staged=FEWEST_STAGED, fewest_baseline=FEWEST_BASELINE, cheapest_staged=FROM_PROXY + further
            )
        self._searched = len(self.costs)
        if search.goal is not None:
            self._leave_out_goal(rule)
        staged, baseline = self._new_states()
        left = self._plannable - self._on_proxies - self._on_verification
        self.winners = affordable_winners(left, staged, baseline, rule)
        if not self.winners or self._on_proxies > MAX_PROXY_SHARE * self.limit:
            raise self._below_useful(replace(rule, winners=1), staged, baseline)
        self._rule = replace(rule, winners=self.winners)
        divided = divide(left, staged, baseline, self._rule)
        assert divided is not None
        searched = [
            BudgetTrials(
                cost=cost,
                staged=of_staged,
                baseline=of_baseline,
                repeats=self._rule.repeats(staged[0], of_staged) + self._rule.repeats(baseline[0], of_baseline),
            )
            for cost, of_staged, of_baseline in zip(self.costs[: self._searched], *divided, strict=True)
        ]
        wanted = [BudgetTrials(cost=self.costs[-1], staged=self.verified[0], baseline=self.verified[1], repeats=0)]
        self.at_start = searched + wanted[: len(self.costs) - self._searched]
        """Trials of each budget if nothing is shared, which is what the limit guarantees."""
        self._check_reach()

    @property
    def limit(self) -> float:
        """The limit in full trainings."""
        return self.priced.limit

    @property
    def spent(self) -> float:
        """Cost of all trials and attempts that have ended, in full trainings."""
        return self.charges.spent

    @property
    def _plannable(self) -> float:
        """The limit without what is kept for failed attempts."""
        return self.limit * (1 - CONTINGENCY)

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

        They were planned from the whole limit, of which a sweep that is resumed for another budget has spent a part.

        Args:
            rungs: of the target, as for `set_trials`.
            proxies: those of all proxies at the budget at which they are compared, from the cheapest proxy up.
            running: upper bound of the cost of what runs, in full trainings.
            repeats_left: as for `set_trials`.

        Returns:
            What those that have not been proposed will cost at most, in full trainings.
        """
        left = self.limit - self.spent - running - self._repeats(self._states(rungs, repeats_left))
        reserved, at_goal = 0.0, rungs[self._searched * len(KINDS) :]
        counts = [*(count for count, _ in self.on_proxies), *self.verified[: len(at_goal)]]
        self.unaffordable = 0
        for rung, count in zip([*proxies, *at_goal], counts, strict=True):
            cost = self.charges.bound(rung.budget, rung.proxy)
            more = max(0, (count if rung.distinct is None else min(count, rung.distinct)) - rung.asked)
            fitting = min(more, max(0, math.floor((left - reserved) / cost + ROUNDING)))
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
        states = self._states(rungs, repeats_left)
        left = self._plannable - self.spent - committed
        counts = None
        repeats = self._repeats(states)
        is_open = all(state.repeats_left is None for of_kind in states for state in of_kind)
        unspent = self.limit - self.spent - committed - repeats
        if is_open or unspent > MAX_UNSPENT * self.limit + ROUNDING:
            counts = divide(left, states[0], states[1], self._rule)
        for number, rung in enumerate(rungs):
            position, kind = divmod(number, len(KINDS))
            if position < self._searched:
                rung.wanted = counts[kind][position] if counts else rung.asked

    def affords(self, cost: float, committed: float, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> bool:
        """Whether this much more can be spent on top of what is committed, and of the repeats; see `set_trials`."""
        repeats = self._repeats(self._states(rungs, repeats_left))
        return self.spent + committed + repeats + cost <= self.limit + ROUNDING

    def _repeats(self, states: Sequence[Sequence[RungState]]) -> float:
        """Cost of the repeats that the trials so far still need."""
        return sum(self._rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in states)

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
        return None if self._searched == len(self.costs) else self.space.budgets[-1]

    @staticmethod
    def at_goal(schedules: int, full_models: int) -> str:
        """What is done at the budget that is not searched, in words, from the numbers of trainings there."""
        if not schedules:
            return "its accuracy is predicted from those below it"
        trained = "the best schedule is" if schedules == 1 else f"the best {schedules} schedules are"
        return f"{trained} trained there once{', and so is the full model' if full_models else ''}"

    @property
    def _on_verification(self) -> float:
        return sum(self.verified) * self.costs[-1]

    def _leave_out_goal(self, rule: Rule) -> None:
        """Search all budgets but the last one, for which a schedule is wanted, if the limit has no room to search that too."""
        staged, baseline = self._new_states()
        left, rule = self._plannable - self._on_proxies, replace(rule, winners=1)
        if affordable_budgets(left, staged, baseline, rule) == len(self.costs) or len(self.costs) == 1:
            return
        self._searched -= 1
        self._useful = rule.useful_cost(staged, baseline, 1)
        self.verified = verified_trainings(left - self._useful, self.limit, self.costs[-1])

    def _check_reach(self) -> None:
        """Check that the accuracy at the budget of `search.goal` can be predicted from the budgets that are searched."""
        if self._searched == len(self.costs) or any(self.verified):
            return
        searched = [number for number, trials in enumerate(self.at_start[: self._searched]) if trials.staged]
        largest, given = self.space.budgets[searched[-1]], self.priced.given
        if (metric := self.space.task.objective.metric) != ACCURACY.name:
            reason = f"cannot be trained within {given}, and {metric} cannot be predicted there"
        elif len(searched) < MIN_BUDGETS:
            reason = (
                f"cannot be trained within {given}, which have room to search {largest} alone; its accuracy is predicted from "
                f"at least {MIN_BUDGETS} budgets"
            )
        elif self.costs[-1] > MAX_REACH * self.costs[searched[-1]]:
            reason = (
                f"is more than {MAX_REACH:g} times {largest}, the largest budget that {given} have room to search, so that "
                "nothing can be said about it"
            )
        else:
            return

        def trains_goal(limit: float) -> bool:
            left = limit * (1 - CONTINGENCY) - self._cost_on_proxies(limit) - self._useful
            return verified_trainings(left, limit, self.costs[-1])[0] > 0

        reason += f"; search.spend of {self._least_limit(self.limit, trains_goal)} would have room to train it there once"
        raise InvalidInput("search.goal", str(self.space.search.goal), reason)

    def larger_limit(self, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> str:
        """What a larger limit would add to a search, in a sentence; see `set_trials`."""
        return self._larger_limit(self._states(rungs, repeats_left), self.spent)

    def larger_limit_at_start(self) -> str:
        """What a larger limit would add to a sweep that has not begun, in a sentence."""
        return self._larger_limit(self._new_states(), 0.0)

    def _larger_limit(self, states: Sequence[Sequence[RungState]], spent: float) -> str:
        """What a larger limit would add to what the states say and what was spent."""
        staged, baseline = states
        asked = sum(state.asked for state in (*staged, *baseline))
        searched = sum(state.asked > 0 for state in staged) or sum(trials.staged > 0 for trials in self.at_start)
        pending = 0.0 if spent else self._on_proxies + self._on_verification
        searched = min(searched, self._searched)
        if searched < self._searched:
            needed = (spent + pending + self._rule.useful_cost(staged, baseline, searched + 1)) / (1 - CONTINGENCY)
            of_staged, of_baseline = (counts[searched] for counts in self._rule.minimum(staged, baseline, searched + 1))
            return (
                f"a limit of {self._rounded_up(needed)} would add the budget {self.space.budgets[searched]}, with at least "
                f"{of_staged} staged and {of_baseline} baseline trials and repeats of the best"
            )
        twice = divide(2 * self._plannable - spent - pending, staged, baseline, self._rule)
        asked = asked or sum(trials.staged + trials.baseline for trials in self.at_start)
        more = sum(map(sum, twice)) - asked if twice else 0
        if more <= 0:
            return "a larger limit would add nothing: every setting of the search space is tried"
        return f"all budgets are searched; twice the limit would add about {more} trials"

    def _rounded_up(self, full_trainings: float) -> str:
        """An amount in the unit of the limit, with a margin for the rounding of its text."""
        return self.priced.text(full_trainings * (1 + ROUNDED_UP) + ROUNDING)

    def _least_limit(self, start: float, is_enough: Callable[[float], bool]) -> str:
        """The smallest limit from `start` up that is enough, as text; all limits that its rounding allows are.

        More trials of a proxy come with a larger limit, so that there may be a larger one that is not enough.
        """
        while not all(is_enough(start * margin) for margin in (1, 1 + ROUNDED_UP, 1 + 2 * ROUNDED_UP)):
            start *= 1 + ROUNDED_UP
        return self._rounded_up(start)

    def _cost_on_proxies(self, limit: float) -> float:
        """Cost of the trials on proxies that a limit has, if nothing is shared, in full trainings."""
        compared, of_proxies = self.priced.costs[self.space.proxy_budget], self.priced.of_proxies
        return sum(proxy_costs_of(proxy_trials(limit, compared, of_proxies), compared, of_proxies))

    def _new_states(self) -> list[list[RungState]]:
        """The states of each kind before the sweep begins."""
        settings = [every_setting(self.space.search, kind) for kind in KINDS]
        distinct = [None if each is None else len(each) for each in settings]
        return [[RungState(cost=cost, distinct=number) for cost in self.costs[: self._searched]] for number in distinct]

    def _states(self, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> list[list[RungState]]:
        """The states of the rungs of each kind."""
        return [
            [
                RungState(cost=cost, asked=rung.asked, distinct=rung.distinct, repeats_left=repeats_left(rung))
                for cost, rung in zip(self.costs[: self._searched], rungs[kind :: len(KINDS)], strict=False)
            ]
            for kind in range(len(KINDS))
        ]

    def _below_useful(self, rule: Rule, staged: Sequence[RungState], baseline: Sequence[RungState]) -> InvalidInput:
        fewest_staged, fewest_baseline = (counts[0] for counts in rule.minimum(staged, baseline, 1))
        repeats = rule.repeats(staged[0], fewest_staged) + rule.repeats(baseline[0], fewest_baseline)
        compared, of_proxies = self.priced.costs[self.space.proxy_budget], self.priced.of_proxies
        on_proxies, useful = MIN_TRIALS * compared * sum(of_proxies), rule.useful_cost(staged, baseline, 1)
        least = least_limit(useful, on_proxies) / (1 - CONTINGENCY)

        def is_useful(limit: float) -> bool:
            cost = self._cost_on_proxies(limit)
            return cost <= MAX_PROXY_SHARE * limit and useful + cost <= limit * (1 - CONTINGENCY) + ROUNDING

        needed = self._least_limit(least, is_useful)
        proxies = f", and {MIN_TRIALS} trials of each proxy at {self.space.proxy_budget}" if on_proxies else ""
        return InvalidInput(
            FIELD,
            str(self.priced.given),
            f"must be at least {needed}, the cheapest useful sweep: {fewest_staged} staged and {fewest_baseline} baseline "
            f"trials at {self.space.budgets[0]}, and the best of each kind again with {rule.seeds} fresh seeds ({repeats} "
            f"repeats), each of at most {self.priced.text(self.costs[0])}{proxies}; a cheaper first budget or fewer "
            "search.repeat_seeds need less",
        )
