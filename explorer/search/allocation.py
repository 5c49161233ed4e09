"""How a spending limit is divided among budgets, trials, baseline trials and repeats. Pure arithmetic; no Optuna, no torch.

All costs are in full trainings of the sweep's task. They are upper bounds: a trial costs its budget at most, and less where it
starts from what others trained. The division is made anew whenever a trial has ended, from what was really spent, so that what
sharing saved is given back to more trials and, where it is enough, to a further budget.

The rule, in order of precedence:

1. The best staged and baseline trial of each budget that is searched are repeated with fresh seeds; this cost is reserved.
2. As many budgets are searched, from the cheapest up, as can have a useful number of trials: at least `MIN_TRIALS` staged and
   `MIN_BASELINE_TRIALS` baseline trials each, and twice as many staged trials on each rung below, as successive halving has
   (Jamieson and Talwalkar 2016), but no more than cost the same.
3. What is left is divided such that each budget costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.spec.trial_counts import MIN_TRIALS

MIN_BASELINE_TRIALS = 2
"""Number of baseline trials that a budget gets at least: a choice of learning rate or batch size."""
BASELINE_SHARE = 1 / 3
"""Cost of the baseline trials of a budget, of that of its staged trials."""
HALVING = 2
"""Staged trials of a budget, at least, for each staged trial of the next one."""
MAX_UNSPENT = 0.1
"""Fraction of the limit that a sweep may leave unspent. Above it, a search whose winners have been repeated is opened again."""
CONTINGENCY = 0.01
"""Fraction of the limit that no trial is planned for: attempts that fail lose a segment, which is trained again."""
ROUNDING = 1e-9
"""Full trainings by which sums may differ from rounding."""


@dataclass(frozen=True, kw_only=True)
class RungState:
    """What is known about the trials of one kind at one budget."""

    cost: float
    """Upper bound of the cost of a trial, in full trainings."""
    asked: int = 0
    """Number of search trials that were proposed, running ones included."""
    distinct: int | None = None
    """Largest number of distinct trials that there are; `None` if it is not known."""
    repeats_left: int | None = None
    """Number of repeats that the best trials still need; `None` before the first repeat, when the best trials may change."""


@dataclass(frozen=True, kw_only=True)
class BudgetTrials:
    """The trials of one budget."""

    cost: float
    """Upper bound of the cost of a trial, in full trainings."""
    staged: int
    baseline: int
    repeats: int
    """Number of repeats with fresh seeds that are still to be done, of both kinds."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a division follows."""

    winners: int
    """Number of the best trials of each kind and budget that are repeated."""
    seeds: int
    """Number of fresh seeds for each of them."""
    first: int = 0
    """Number of known schedules, which are tried at each budget."""
    fewest_staged: int = MIN_TRIALS
    """Number of staged trials that a budget gets at least."""
    fewest_baseline: int = MIN_BASELINE_TRIALS
    """Number of baseline trials that a budget gets at least."""
    cheapest_staged: int = 0
    """Number of staged trials that the cheapest budget gets at least."""
    cheapest_baseline: int = 0
    """Number of baseline trials that the cheapest budget gets at least."""

    def repeats(self, state: RungState, trials: int) -> int:
        """Repeats to reserve for one kind at one budget that has this number of trials in the end."""
        if state.repeats_left is not None and trials <= state.asked:
            return state.repeats_left
        return min(self.winners, trials) * self.seeds

    def cost(self, states: Sequence[RungState], counts: Sequence[int]) -> float:
        """Cost of the trials up to these numbers that have not been proposed yet, and of the repeats."""
        return sum(
            state.cost * (max(0, count - state.asked) + self.repeats(state, max(count, state.asked)))
            for state, count in zip(states, counts, strict=True)
        )

    def minimum(self, staged: Sequence[RungState], baseline: Sequence[RungState], budgets: int) -> tuple[list[int], list[int]]:
        """The fewest useful trials, staged and baseline, when this number of budgets is searched."""
        fewest, top = max(self.fewest_staged, self.first), staged[budgets - 1].cost
        of_staged, of_baseline = [0] * len(staged), [0] * len(baseline)
        for rung in range(budgets):
            least_staged, least_baseline = (self.cheapest_staged, self.cheapest_baseline) if rung == 0 else (0, 0)
            equal_cost = math.ceil(fewest * top / staged[rung].cost - ROUNDING)
            halved = min(fewest * HALVING ** (budgets - 1 - rung), equal_cost)
            of_staged[rung] = capped(max(halved, least_staged), staged[rung])
            of_baseline[rung] = capped(max(self.fewest_baseline, least_baseline), baseline[rung])
        return of_staged, of_baseline

    def useful_cost(self, staged: Sequence[RungState], baseline: Sequence[RungState], budgets: int) -> float:
        """What has to be left for the fewest useful trials at this number of budgets, and for all repeats."""
        of_staged, of_baseline = self.minimum(staged, baseline, budgets)
        return self.cost(staged, of_staged) + self.cost(baseline, of_baseline)


def divide(
    left: float, staged: Sequence[RungState], baseline: Sequence[RungState], rule: Rule
) -> tuple[list[int], list[int]] | None:
    """The numbers of staged and of baseline trials at each budget in the end, those included that were proposed already.

    Args:
        left: what is neither spent nor needed by running trials, in full trainings.
        staged: the staged trials of each budget, from the cheapest up.
        baseline: the baseline trials of each budget.
        rule: what the division follows.

    Returns:
        `None` if not even the cheapest budget can have a useful number of trials, or what was begun cannot be repeated.
    """
    budgets, begun = affordable_budgets(left, staged, baseline, rule), sum(state.asked > 0 for state in staged)
    if not max(budgets, begun):
        return None
    least_staged, least_baseline = rule.minimum(staged, baseline, max(budgets, begun))
    if budgets < begun:  # failed attempts took what the useful numbers need
        least_staged = [min(least, max(1, state.asked)) for least, state in zip(least_staged, staged, strict=True)]
        least_baseline = [min(least, max(1, state.asked)) for least, state in zip(least_baseline, baseline, strict=True)]
        budgets = begun

    def counts(level: float) -> tuple[list[int], list[int]]:
        """The trials when each budget may cost this much."""
        return (
            [_count(level, state, least) for state, least in zip(staged, least_staged, strict=True)],
            [_count(level * BASELINE_SHARE, state, least) for state, least in zip(baseline, least_baseline, strict=True)],
        )

    def fits(of_staged: Sequence[int], of_baseline: Sequence[int]) -> bool:
        return rule.cost(staged, of_staged) + rule.cost(baseline, of_baseline) <= left + ROUNDING

    if not fits(*counts(0.0)):
        return None
    low, high = 0.0, left + sum(state.asked * state.cost for state in (*staged, *baseline))
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(*counts(middle)) else (low, middle)
    of_staged, of_baseline = counts(low)
    more = True
    while more:  # what is left of a trial at each budget is enough for some trials together
        more = False
        for rung in reversed(range(budgets)):
            state, one_more = staged[rung], [*of_staged]
            one_more[rung] += 1
            if capped(one_more[rung], state) == one_more[rung] and fits(one_more, of_baseline):
                of_staged, more = one_more, True
                break
    return of_staged, of_baseline


def divide_again(
    limit: float, committed: float, staged: Sequence[RungState], baseline: Sequence[RungState], rule: Rule
) -> tuple[list[int], list[int]] | None:
    """The numbers of trials of a search that may have begun, as `divide` returns them.

    Args:
        limit: the limit.
        committed: what is spent, what runs, and what is reserved besides repeats.
        staged: the staged trials of each budget, from the cheapest up.
        baseline: the baseline trials of each budget.
        rule: what the division follows.

    Returns:
        `None` if no trial is to be added: less than `MAX_UNSPENT` of the limit is left since the winners were repeated, or no
        division is possible.
    """
    states = (staged, baseline)
    repeats = sum(rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in states)
    is_open = all(state.repeats_left is None for of_kind in states for state in of_kind)
    if not is_open and limit - committed - repeats <= MAX_UNSPENT * limit + ROUNDING:
        return None
    return divide(limit * (1 - CONTINGENCY) - committed, staged, baseline, rule)


def affordable_budgets(left: float, staged: Sequence[RungState], baseline: Sequence[RungState], rule: Rule) -> int:
    """Number of budgets, from the cheapest up, that can have a useful number of trials; 0 for none."""
    fitting = (n for n in range(len(staged), 0, -1) if rule.useful_cost(staged, baseline, n) <= left + ROUNDING)
    return next(fitting, 0)


def affordable_winners(limit: float, staged: Sequence[RungState], baseline: Sequence[RungState], rule: Rule) -> int:
    """The largest number of repeated trials, up to that of the rule, with which a new sweep has a budget; 0 for none."""
    for winners in range(rule.winners, 0, -1):
        if affordable_budgets(limit, staged, baseline, replace(rule, winners=winners)):
            return winners
    return 0


def _count(level: float, state: RungState, least: int) -> int:
    """Trials of one kind at a budget that together cost this much; 0 where the budget is not searched."""
    if not least:
        return state.asked
    return max(state.asked, capped(max(least, math.floor(level / state.cost + ROUNDING)), state))


def capped(count: int, state: RungState) -> int:
    """A number of trials, or that of the distinct ones if it is smaller."""
    return count if state.distinct is None else min(count, state.distinct)
