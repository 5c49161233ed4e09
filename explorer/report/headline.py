"""What a sweep shows about staged training, in words. Only differences whose intervals are apart count."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explorer.frontier.break_even import BreakEven, is_unexplored
from explorer.frontier.comparison import FULL_TRAINING, BudgetComparison, FullTrainingMatch
from explorer.spec.budget import Budget, Currency
from explorer.spec.metric import ACCURACY, MetricSpec

COST_NAMES: dict[Currency, str] = {"flops": "cost", "device_seconds": "device-seconds"}
"""What costs are called: where nothing else is said, they are FLOPs."""
BY_CURRENCY: dict[Currency, str] = {"flops": "", "device_seconds": ", at equal device-seconds"}


def headline(
    comparisons: Sequence[BudgetComparison],
    match: FullTrainingMatch | None,
    currency: Currency = "flops",
    metric: MetricSpec = ACCURACY,
) -> str:
    """One to three sentences that hold whichever side is ahead.

    Args:
        comparisons: of both kinds at each budget, as `compare_budgets` returns.
        match: the cost at which staged training matches full training, as `match_full_training` returns.
        currency: currency of the sweep, which costs and budgets are in.
        metric: what was measured.
    """
    if not comparisons:
        return "Staged and baseline training have no budget in common yet."
    decided = [comparison for comparison in comparisons if comparison.verdict != "undecided"]
    if match is not None and match.certain:
        seeds = _range([match.target.seeds, *(comparison.seeds for comparison in comparisons if comparison.has_intervals)])
        matches = "is predicted to match" if match.predicted else "matches"
        predicted = ", predicted" if match.predicted else ""
        return (
            f"Staging {matches} full training ({metric.score_text(match.target.mean)} test {metric.label}{predicted}) at "
            f"{match_cost(match)} of its "
            f"{COST_NAMES[currency]} "
            f"(95 % interval {match_interval(match)}, means of {seeds})."
        )
    open_budgets = [comparison for comparison in comparisons if comparison.verdict == "undecided"]
    if not decided:
        where = f"{_all_of(comparisons)}{BY_CURRENCY[currency]}"
        if not any(comparison.has_intervals for comparison in open_budgets):
            reason = _no_interval(open_budgets)
            return f"Whether staging is ahead is not decided {where}: {reason}, and only repeats with fresh seeds can decide."
        return f"Staged and baseline training are {undecided_text(open_budgets)} {where}{_reason(open_budgets)}."
    basis = f"95 % intervals apart, means of {_seeds(decided)}{BY_CURRENCY[currency]}"
    ahead = [comparison for comparison in decided if comparison.verdict == "ahead"]
    behind = len(decided) - len(ahead)
    others = f"{len(open_budgets)} other{'s' if len(open_budgets) > 1 else ''}"
    rest = f" At {others}, {_of_the_two(open_budgets)}." if open_budgets else ""
    of_all = f"{len(comparisons)} budget{'s' if len(comparisons) > 1 else ''}"
    if not ahead:
        return f"Staging is ahead at no budget and behind at {behind} of {of_all} ({basis}).{rest}"
    best = max(ahead, key=lambda comparison: comparison.gain)
    losses = f" It is behind at {behind}." if behind else ""
    return (
        f"Staging is ahead at {len(ahead)} of {of_all}, most at {_of_full_training(best.budget)}: "
        f"{_named(metric)}{metric.score_text(best.staged.mean)} against {metric.score_text(best.baseline.mean)} "
        f"({basis}).{losses}{rest}"
    )


def _named(metric: MetricSpec) -> str:
    """The metric's name before its values, and which ones are better; nothing for accuracy, which percentages stand for."""
    return "" if metric == ACCURACY else f"{metric.label} ({metric.better} is better) "


def equal_time_sentence(comparisons: Sequence[BudgetComparison]) -> str:
    """At how many baselines staging is ahead at their measured time; empty without comparisons.

    Args:
        comparisons: of each baseline with the staged training that takes no longer.
    """
    if not comparisons:
        return ""
    return f"Where the two can be compared at equal measured time, staging is ahead at {ahead_count(comparisons)}."


def break_even_sentence(paid: BreakEven) -> str:
    """What finding out cost, beside what it saves: `Found for 0.8 of a full training; saves 0.7 of each, ...`."""
    found = f"Found for {full_trainings(paid.search_cost)}"
    if paid.reused:
        found += f", with {paid.reused} trial{'s' if paid.reused > 1 else ''} reused from other sweeps"
    if paid.payback == "unknown":
        return f"{found}; what it saves is not known: the cost to match full training was neither measured nor predicted."
    if paid.payback == "undecided":
        return f"{found}; what it saves of each is not decided."
    if paid.payback == "never":
        return f"{found}; it saves nothing of a full training, and never pays."
    saves = "is predicted to save" if paid.predicted else "saves"
    return f"{found}; {saves} {paid.saving:.2g} of each, and has paid after {trainings_text(paid.trainings)}."


def break_even_verdict(paid: BreakEven) -> tuple[str, str]:
    """After how many trainings the search cost has paid, as a value and a remark."""
    predicted = ", predicted" if paid.predicted else ""
    if paid.payback == "unknown":
        return "not known", "what is saved of each training was neither measured nor predicted"
    if paid.payback == "never":
        is_more = -math.inf < paid.saving < 0
        more = f": being equally good costs {-paid.saving:.2g} of a full training more" if is_more else ""
        return "never", f"staging saves nothing of a full training{predicted}{more}"
    saving = f"saving {paid.saving:.2g} of each{predicted}" if paid.saving > 0 else f"estimate: no saving{predicted}"
    fewest, most = (trainings_text(count) for count in paid.trainings_interval)
    spread = "one seed, no interval" if math.isnan(paid.low) else f"95 % interval {fewest} to {most}"
    return ("undecided" if paid.payback == "undecided" else trainings_text(paid.trainings)), f"{saving}; {spread}"


def full_trainings(cost: float) -> str:
    """A cost as text: `0.8 of a full training`, `23.3 full trainings`."""
    return f"{cost:.2g} of a full training" if cost < 0.995 else f"{cost:.1f} full trainings"


def trainings_text(count: float) -> str:
    """A number of whole trainings, rounded up; `never` for infinitely many."""
    if not math.isfinite(count):
        return "never"
    whole = max(1, math.ceil(count - 1e-9))
    return f"{whole:,} training{'s' if whole > 1 else ''}"


def verdict_text(comparison: BudgetComparison) -> str:
    """What is decided at a budget: `ahead`, `behind`, or what `undecided_text` says."""
    return undecided_text([comparison]) if comparison.verdict == "undecided" else comparison.verdict


def ahead_count(comparisons: Sequence[BudgetComparison]) -> str:
    """At how many budgets staging is ahead and behind: `1 of 5 budgets`, `none of 5 budgets, behind at 2`."""
    if not comparisons:
        return "not compared"
    verdicts = [comparison.verdict for comparison in comparisons]
    behind = f", behind at {verdicts.count('behind')}" if "behind" in verdicts else ""
    budgets = f"{len(verdicts)} budget{'s' if len(verdicts) > 1 else ''}"
    return f"{verdicts.count('ahead') or 'none'} of {budgets}{behind}"


def undecided_text(comparisons: Sequence[BudgetComparison]) -> str:
    """What is said of budgets that are not decided: `not distinguishable with 2 seeds`, where there are intervals to compare;
    `not decided: one seed each gives no interval` where there are none."""
    compared = [comparison for comparison in comparisons if comparison.has_intervals]
    if not compared:
        return f"not decided: {_no_interval(comparisons)}"
    rest = ", or not decided where there is no interval" if len(compared) < len(comparisons) else ""
    return f"not distinguishable with {_seeds(compared)}{rest}"


def _of_the_two(comparisons: Sequence[BudgetComparison]) -> str:
    """What is said of budgets that are not decided, as a clause."""
    if any(comparison.has_intervals for comparison in comparisons):
        return f"the two are {undecided_text(comparisons)}"
    return f"nothing is decided: {_no_interval(comparisons)}"


def _no_interval(comparisons: Sequence[BudgetComparison]) -> str:
    """Why there is no interval at budgets that have none."""
    if all(comparison.staged.seeds == comparison.baseline.seeds == 1 for comparison in comparisons):
        return "one seed each gives no interval"
    if all(comparison.seeds == 1 for comparison in comparisons):
        return "one seed gives no interval"
    return "one seed, or seeds with equal results, give no interval"


def _seeds(comparisons: Sequence[BudgetComparison]) -> str:
    """The numbers of seeds behind the means: `3 seeds`, `1 to 3 seeds`."""
    return _range([comparison.seeds for comparison in comparisons])


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{high} seed{'s' if high > 1 else ''}" if low == high else f"{low} to {high} seeds"


def _all_of(comparisons: Sequence[BudgetComparison]) -> str:
    return f"at any of {len(comparisons)} budgets" if len(comparisons) > 1 else f"at {_of_full_training(comparisons[0].budget)}"


def _reason(comparisons: Sequence[BudgetComparison]) -> str:
    with_intervals = [comparison.has_intervals for comparison in comparisons]
    if all(with_intervals):
        return ": their 95 % intervals overlap"
    return ": their 95 % intervals overlap, or are not known yet where a mean is of one seed"


def match_cost(match: FullTrainingMatch | None) -> str:
    """The cost to match as text: `38%`, `25% or less`, `not reached`, `not known` or `not measured`."""
    if match is None:
        return "not measured"
    if is_unexplored(match):
        return "not known"
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
    if match is None:
        return "not measured", ""
    if is_unexplored(match):
        return cost, f"staged training was measured up to {_percent(match.measured[1])} only"
    predicted = "predicted, " if match.predicted else ""
    if not match.reached:
        return "not reached", f"{predicted}below the cost of full training"
    if match.certain:
        return cost, f"of its cost; {predicted}95 % interval {spread}"
    return "undecided", f"{predicted}estimate {cost}; " + (f"95 % interval {spread}" if spread else "one seed, no interval")


def _of_full_training(budget: Budget) -> str:
    return f"{budget} of full training" if budget.unit == "fraction" else str(budget)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g}%" if fraction < FULL_TRAINING else f"{100 * fraction:.3g}%"
