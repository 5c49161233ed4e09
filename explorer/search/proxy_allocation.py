"""How much of a spending limit goes to proxies, and to the budget that a schedule is wanted for. Pure arithmetic.

Costs are in full trainings of the sweep's task. Proxies compare schedules at the share of training that is wanted, where they
cost little; the cheapest budget of the target tunes the learning rate and batch size of what they chose; that is then trained
at the wanted budget itself, if the limit has room. What is left goes to the budgets below the wanted one. See
docs/howto/spending-limit.md, and benchmarks/less_than_one for what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from explorer.search.allocation import ROUNDING
from explorer.spec.trial_counts import MIN_TRIALS

PROXY_SHARE = 1 / 5
"""Fraction of the limit that all proxies together are given; they exceed it only with `MIN_TRIALS` trials each."""
MAX_PROXY_SHARE = 1 / 2
"""Fraction of the limit that they may not exceed even then."""
MAX_PROXY_TRIALS = 48
"""Trials of a proxy: its samplers find little more, and starting and evaluating a trial takes time too."""
FEWEST_STAGED, FEWEST_BASELINE = 4, 3
"""Trials that the cheapest budget of the target gets at least, where a schedule is wanted for one budget: the best one of a
proxy and a control, and both kinds with two other learning rates or batch sizes. Where further optimizers and learning-rate
schedules are compared, it gets at least one trial of each kind with each of them."""
FROM_PROXY = 2
"""Trials there that are not: the best one of a proxy and a control."""
VERIFICATION_SHARE = 1 / 2
"""Fraction of the limit that trainings at the wanted budget may take."""
MAX_VERIFIED = 3
"""Schedules that are trained at the wanted budget, besides one full model."""


def proxy_trials(limit: float, wanted: float, relative: Sequence[float]) -> list[int]:
    """The numbers of trials of each proxy, such that all proxies cost the same, but have `MIN_TRIALS`.

    Args:
        limit: the limit.
        wanted: the budget that a schedule is wanted for, as a share of full training; proxies are trained at this share.
        relative: cost of full training of each proxy.
    """
    level = PROXY_SHARE * limit / max(1, len(relative))
    return [max(MIN_TRIALS, min(MAX_PROXY_TRIALS, math.floor(level / (cost * wanted) + ROUNDING))) for cost in relative]


def proxy_costs_of(trials: Sequence[int], wanted: float, relative: Sequence[float]) -> list[float]:
    """What the trials of each proxy cost if nothing is shared, in full trainings; arguments as for `proxy_trials`."""
    return [count * wanted * cost for count, cost in zip(trials, relative, strict=True)]


def verified_trainings(left: float, limit: float, cost: float) -> tuple[int, int]:
    """Numbers of schedules, and of full models, to train at the wanted budget, where it is too expensive to be searched.

    The second training there is that of the full model: without it, nothing would show what the schedule is worth.

    Args:
        left: what proxies and the fewest useful trials at the cheapest budget of the target leave of the limit.
        limit: the limit.
        cost: of a training at that budget.
    """
    trainings = max(0, math.floor(min(left, VERIFICATION_SHARE * limit) / cost))
    full_models = int(trainings > 1)
    return min(MAX_VERIFIED, trainings - full_models), full_models
