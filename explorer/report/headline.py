"""What a sweep shows about staged training, in words. Only differences whose intervals are apart count."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explorer.frontier.comparison import FULL_TRAINING, BudgetComparison, FullTrainingMatch
from explorer.spec.budget import Budget


def headline(comparisons: Sequence[BudgetComparison], match: FullTrainingMatch | None) -> str:
    """One or two sentences that hold whichever side is ahead.

    Args:
        comparisons: of both kinds at each budget, as `compare_budgets` returns.
        match: the cost at which staged training matches full training, as `match_full_training` returns.
    """
    if not comparisons:
        return "Staged and baseline training have no budget in common yet."
    budgets = f"{len(comparisons)} budget{'s' if len(comparisons) > 1 else ''}"
    if not any(comparison.has_intervals for comparison in comparisons):
        higher = sum(comparison.gain > 0 for comparison in comparisons)
        return (
            f"Undecided: with one seed per schedule there are no intervals. Staged accuracy is higher at {higher} of "
            f"{budgets}, which only repeats with fresh seeds can confirm."
        )
    seeds = min(min(c.staged.seeds, c.baseline.seeds) for c in comparisons if c.has_intervals)
    basis = f"means of {seeds} fresh seeds"
    if match is not None and match.certain:
        return (
            f"Staging matches full training ({match.target.mean:.1%} test accuracy) at {match_cost(match)} of its cost "
            f"(95 % interval {match_interval(match)}, {basis})."
        )
    ahead = [comparison for comparison in comparisons if comparison.verdict == "ahead"]
    behind = sum(comparison.verdict == "behind" for comparison in comparisons)
    if ahead:
        best = max(ahead, key=lambda comparison: comparison.gain)
        losses = f" It is behind at {behind}." if behind else ""
        return (
            f"Staging is ahead at {len(ahead)} of {budgets}, most at {_of_full_training(best.budget)}: "
            f"{best.staged.mean:.1%} against {best.baseline.mean:.1%} (95 % intervals apart, {basis}).{losses}"
        )
    if behind:
        return f"Staging is ahead at no budget and behind at {behind} of {budgets} (95 % intervals apart, {basis})."
    return f"No certain difference between staged and baseline training at {budgets}: their 95 % intervals overlap ({basis})."


def match_cost(match: FullTrainingMatch | None) -> str:
    """The cost to match as text: `38%`, `25% or less`, `not reached` or `not measured`."""
    if match is None:
        return "not measured"
    if math.isinf(match.match.cost):
        return "not reached"
    return _percent(match.match.cost) + (" or less" if match.match.cost <= match.measured[0] else "")


def match_interval(match: FullTrainingMatch | None) -> str:
    """Its 95 % interval as text, `31% to 46%`; empty without one."""
    if match is None or math.isnan(match.match.low) or math.isinf(match.match.cost):
        return ""
    high = match.match.high
    return f"{_percent(match.match.low)} to {_percent(high) if math.isfinite(high) else f'above {_percent(match.measured[1])}'}"


def match_verdict(match: FullTrainingMatch | None) -> tuple[str, str]:
    """The cost to match as a value and a remark; the value is a cost only where it is certain to be below full training."""
    cost, spread = match_cost(match), match_interval(match)
    if match is None or not match.reached:
        return ("not measured", "") if match is None else ("not reached", "below the cost of full training")
    if match.certain:
        return cost, f"of its cost; 95 % interval {spread}"
    return "undecided", f"estimate {cost}; " + (f"95 % interval {spread}" if spread else "one seed, no interval")


def _of_full_training(budget: Budget) -> str:
    return f"{budget} of full training" if budget.unit == "fraction" else str(budget)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g}%" if fraction < FULL_TRAINING else f"{100 * fraction:.3g}%"
