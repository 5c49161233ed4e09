"""When a model is evaluated during its training: after equal shares of the budget.

Not after epochs, because those of early stages cost a fraction of the others: most evaluations would be of models that are far
from finished, and would cost more than the training between them. Not after minutes, because a resumed run, or one on another
device, would be evaluated after other steps. The budget is what plans, learning rates and the report's curves are drawn over.
"""

from __future__ import annotations

import math

from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.spec.budget import Budget

FIELD = "evaluate_every"
MIN_SHARE = 0.001
"""Smallest share: a thousand evaluations take longer than what they measure."""
ALLOWED = f"must be a share of the budget from {MIN_SHARE:.1%} to below 100%, such as 10% or 0.1"


def parse_share(text: str) -> float:
    """Parse `10%` or `0.1`, a share of a budget.

    Raises:
        InvalidInput: for anything else, such as a number of epochs or minutes.
    """
    try:
        share = Budget.parse(text)
    except InvalidInput:
        raise InvalidInput(FIELD, text, ALLOWED) from None
    if share.unit != "fraction" or not MIN_SHARE <= share.amount < 1:
        raise InvalidInput(FIELD, text, ALLOWED)
    return share.amount


def evaluation_steps(plan: Plan, share: float) -> frozenset[int]:
    """Numbers of steps after each of which another share of the budget has been spent.

    Args:
        plan: the plan.
        share: the share, in (0, 1).

    Returns:
        Without the last step: the finished model is evaluated in any case.
    """
    due: set[int] = set()
    number, steps = 1, 0
    for segment in plan.segments:
        length = segment.end_time - segment.start_time
        while number * share < segment.end_time + 1e-9:
            into = (number * share - segment.start_time) / length * segment.steps
            due.add(steps + min(segment.steps, max(1, math.ceil(into - 1e-6))))
            number += 1
        steps += segment.steps
    return frozenset(due - {plan.steps})
