"""What a spending limit has room for: proxies, budgets that are searched, trainings at the wanted budget. Pure arithmetic.

The same function plans a sweep, finds the smallest useful limit, and says what a larger limit would add. Costs are in full
trainings of the sweep's task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from explorer.search.allocation import (
    CONTINGENCY,
    ROUNDING,
    Rule,
    RungState,
    affordable_budgets,
    affordable_winners,
    capped,
    divide_again,
)
from explorer.search.proxy_allocation import MAX_PROXY_SHARE, proxy_costs_of, proxy_trials, verified_trainings

MARGIN = 0.0005
"""Relative margin for the rounding of the text of a limit, which has four digits."""

States = Sequence[Sequence[RungState]]
"""The states of staged and of baseline trials, one for each budget from the cheapest up."""


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """What the division of a limit follows from, besides the limit."""

    states: States
    """The states of all budgets before the sweep begins."""
    rule: Rule
    """What it follows; its number of winners is the largest one."""
    has_goal: bool
    """Whether a schedule is wanted for the last budget, which is left out of the search where it is too expensive."""
    compared: float
    """The budget at which proxies are trained, as a share of full training."""
    of_proxies: tuple[float, ...] = ()
    """Cost of full training of each proxy."""

    @property
    def costs(self) -> list[float]:
        """Upper bound of the cost of a trial at each budget."""
        return [state.cost for state in self.states[0]]


@dataclass(frozen=True, kw_only=True)
class LimitPlan:
    """What a limit has room for, if nothing is shared."""

    limit: float
    on_proxies: tuple[int, ...]
    """Number of trials of each proxy."""
    proxy_costs: tuple[float, ...]
    """Their cost."""
    candidates: int
    """Number of budgets that may be searched: all, or all but the wanted one."""
    searched: int
    """Number of those, from the cheapest up, that have a useful number of trials; 0 for none."""
    verified: tuple[int, int]
    """Numbers of schedules and of full models that are trained at the wanted budget, where that is not searched."""
    rule: Rule
    """With the number of winners that the limit has room for."""
    left: float
    """What is left for the budgets that are searched."""

    @property
    def is_useful(self) -> bool:
        """Whether a budget is searched, and proxies leave enough of the limit."""
        return self.searched > 0 and sum(self.proxy_costs) <= MAX_PROXY_SHARE * self.limit


def plan_limit(limit: float, sweep: PlannedSweep) -> LimitPlan:
    """What a limit has room for in a sweep that has not begun."""
    on_proxies = proxy_trials(limit, sweep.compared, sweep.of_proxies)
    proxy_costs = proxy_costs_of(on_proxies, sweep.compared, sweep.of_proxies)
    left = limit * (1 - CONTINGENCY) - sum(proxy_costs)
    (staged, baseline), costs = sweep.states, sweep.costs
    candidates, verified, least = len(costs), (0, 0), replace(sweep.rule, winners=1)
    if sweep.has_goal and candidates > 1 and affordable_budgets(left, staged, baseline, least) < candidates:
        candidates -= 1
        verified = verified_trainings(left - least.useful_cost(staged, baseline, 1), limit, costs[-1])
        left -= sum(verified) * costs[-1]
        staged, baseline = staged[:candidates], baseline[:candidates]
    winners = affordable_winners(left, staged, baseline, sweep.rule)
    rule = replace(sweep.rule, winners=max(1, winners))
    return LimitPlan(
        limit=limit,
        on_proxies=tuple(on_proxies),
        proxy_costs=tuple(proxy_costs),
        candidates=candidates,
        searched=affordable_budgets(left, staged, baseline, rule),
        verified=verified,
        rule=rule,
        left=left,
    )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a sweep has done so far."""

    states: States
    """The states of all budgets of the target."""
    on_proxies: Sequence[RungState]
    """Those of the proxies, at the budget at which they are trained."""
    spent: float = 0.0
    """What is spent, and what runs at most."""


def outstanding(plan: LimitPlan, progress: Progress) -> list[int]:
    """How many trials of a plan outside the budgets that are searched have not been proposed yet.

    Returns:
        One number for each proxy, and where the wanted budget is not searched, one for its schedules and one for full models.
    """
    at_goal = [] if plan.candidates == len(progress.states[0]) else [of_kind[-1] for of_kind in progress.states]
    counts = [*plan.on_proxies, *plan.verified[: len(at_goal)]]
    states = [*progress.on_proxies, *at_goal]
    return [max(0, capped(count, state) - state.asked) for count, state in zip(counts, states, strict=True)]


def left_for_goal(plan: LimitPlan, progress: Progress) -> float:
    """What is left of a limit for proxies and trainings at the wanted budget if a sweep resumes with a plan.

    The repeats come before them, and the fewest useful trials at the cheapest budget, without which nothing could be said. The
    trials that an earlier goal left at budgets that are not searched now are repeated after them.
    """
    kept: list[list[RungState]] = [list(of_kind[: plan.candidates]) for of_kind in progress.states]
    fewest = (plan.rule.fewest_staged, plan.rule.fewest_baseline)
    for place in range(plan.searched, plan.candidates):
        if any(of_kind[place].asked < capped(least, of_kind[place]) for of_kind, least in zip(kept, fewest, strict=True)):
            for of_kind in kept:
                of_kind[place] = RungState(cost=of_kind[place].cost)
    repeats = sum(plan.rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in kept)
    useful = plan.rule.useful_cost(kept[0], kept[1], 1)
    left = plan.limit - progress.spent - repeats
    if useful > repeats + ROUNDING:
        left = min(left, plan.limit * (1 - CONTINGENCY) - progress.spent - useful)
    return left


def trials_within(plan: LimitPlan, progress: Progress) -> tuple[list[int], int]:
    """The numbers of staged trials at the budgets that may be searched if a sweep resumes with a plan, and of new trials."""
    staged, baseline = (of_kind[: plan.candidates] for of_kind in progress.states)
    outside = outstanding(plan, progress)
    costs = [state.cost for state in progress.on_proxies] + [of_kind[-1].cost for of_kind in progress.states]
    committed = progress.spent + sum(count * cost for count, cost in zip(outside, costs, strict=False))
    asked = [state.asked for state in staged], [state.asked for state in baseline]
    counts = divide_again(plan.limit, committed, staged, baseline, plan.rule) or asked
    return counts[0], sum(map(sum, counts)) - sum(map(sum, asked)) + sum(outside)


def least_limit(start: float, is_enough: Callable[[float], bool]) -> float:
    """The smallest limit above `start` that is enough, and with it all that the rounding of its text allows.

    More trials of a proxy come with a larger limit, so that there may be a larger one that is not enough.

    Args:
        start: a limit that is not enough.
        is_enough: whether a limit is; every one that is large enough has to be.
    """

    def is_enough_with_margin(limit: float) -> bool:
        return all(is_enough(limit * margin) for margin in (1, 1 + MARGIN, (1 + MARGIN) ** 2))

    low = high = start
    for step in (2, 1.01):
        high = low
        while not is_enough_with_margin(high):
            low, high = high, high * step
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough_with_margin(middle) else (middle, high)
    return high
