"""How much of a spending limit goes to proxies, and to the budget that a schedule is wanted for. Pure arithmetic.

Costs are in full trainings of the sweep's task. Proxies compare schedules at the share of training that is wanted, where they
cost little; cheap budgets of the target tune learning rates and give the curve its shape; what the proxies chose is then
trained at the wanted budget itself, if the limit has room. See docs/howto/spending-limit.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from explorer.spec.trial_counts import MIN_TRIALS

PROXY_SHARE = 1 / 4
"""Fraction of the limit that all proxies together are given; they exceed it only with `MIN_TRIALS` trials each."""
MAX_PROXY_SHARE = 1 / 2
"""Fraction of the limit that they may not exceed even then."""
MAX_PROXY_TRIALS = 48
"""Trials of a proxy at one budget: its samplers find little more, and starting and evaluating a trial takes time too."""
MIN_PROXY_BUDGETS = 2
"""Budgets at which a proxy compares schedules at least: many at the cheapest one, and the best of them at the last."""
VERIFICATION_SHARE = 1 / 2
"""Fraction of the limit that trainings at the wanted budget may take."""
MAX_VERIFIED = 3
"""Schedules that are trained at the wanted budget; the next training there is that of the full model."""


def proxy_trials(limit: float, budgets: Sequence[float], relative: Sequence[float]) -> list[tuple[int, ...]]:
    """The numbers of trials of each proxy at each budget, such that each of these rungs costs the same, but has `MIN_TRIALS`.

    Where not all rungs can have so many, budgets between the cheapest one and the last one, which is the wanted one, are left out,
    from the most expensive down: they have 0 trials.

    Args:
        limit: the limit.
        budgets: shares of full training, in rising order.
        relative: cost of full training of each proxy.
    """

    def counts(level: float, searched: Sequence[float]) -> list[tuple[int, ...]]:
        """The trials when each rung may cost this much."""
        return [
            tuple(
                max(MIN_TRIALS, min(MAX_PROXY_TRIALS, math.floor(level / (cost * budget)))) if budget in searched else 0
                for budget in budgets
            )
            for cost in relative
        ]

    def fits(level: float, searched: Sequence[float]) -> bool:
        return proxy_cost(counts(level, searched), budgets, relative) <= PROXY_SHARE * limit

    searched = list(budgets)
    while len(searched) > MIN_PROXY_BUDGETS and not fits(0.0, searched):
        del searched[-2]
    low, high = 0.0, limit
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle, searched) else (low, middle)
    return counts(low, searched)


def proxy_cost(trials: Sequence[Sequence[int]], budgets: Sequence[float], relative: Sequence[float]) -> float:
    """Cost of these trials, if nothing is shared."""
    return sum(
        count * budget * cost
        for counts, cost in zip(trials, relative, strict=True)
        for count, budget in zip(counts, budgets, strict=True)
    )


def least_limit(useful: float, proxies: float) -> float:
    """The smallest limit that has room for what the cheapest budget of the target needs, and for the fewest trials on proxies.

    Args:
        useful: the fewest useful trials at the cheapest budget of the target, and repeats of the best.
        proxies: `MIN_TRIALS` trials at each budget of each proxy.
    """
    if not proxies:
        return useful
    return max(useful + proxies, useful / (1 - PROXY_SHARE), proxies / MAX_PROXY_SHARE)


def verified_trainings(left: float, limit: float, cost: float) -> tuple[int, int]:
    """Numbers of schedules, and of full models, to train at the wanted budget, where it is too expensive to be searched.

    Args:
        left: what proxies and the fewest useful trials at the cheapest budget of the target leave of the limit.
        limit: the limit.
        cost: of a training at that budget.
    """
    trainings = max(0, math.floor(min(left, VERIFICATION_SHARE * limit) / cost))
    return min(MAX_VERIFIED, trainings), int(trainings > MAX_VERIFIED)
