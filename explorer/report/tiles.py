"""The tiles below the headline: the numbers that matter most."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.frontier import knee
from explorer.frontier.comparison import BudgetComparison
from explorer.frontier.trials import row_with_largest
from explorer.ledger.spending import SpendingStatus
from explorer.report.frontier_data import FrontierData
from explorer.report.headline import ahead_count, break_even_verdict, match_verdict, undecided_text, verdict_text
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.spending import in_full_trainings


@dataclass(frozen=True)
class Tile:
    """A number with its name and a remark, as text."""

    name: str
    value: str
    remark: str


def tiles(sweep: LoadedSweep) -> list[Tile]:
    """The tiles of a sweep."""
    winners = sweep.data.winners.sort_values("cost").reset_index(drop=True)
    metric = sweep.data.metric
    top = row_with_largest(winners, "test_mean")
    comparison = next((each for each in sweep.data.comparisons if str(each.budget) == top.budget), None)
    shown = [
        Tile("staging ahead at", *_ahead(sweep.data)),
        Tile("staging matches full training at", *match_verdict(sweep.data.match)),
        Tile(
            f"best test {metric.label}",
            metric.score_text(top.test_mean),
            f"at {top.budget}, {top.kind}{_against_other(top.kind, comparison)}",
        ),
    ]
    bend = knee(winners.cost, winners.test_mean)
    if bend is not None:
        at_knee = winners.iloc[bend]
        remark = f"{metric.score_text(at_knee.test_mean)}; above it, more cost gains less"
        shown.append(Tile("knee of the curve", str(at_knee.budget), remark))
    pays = Tile("pays after", *break_even_verdict(sweep.data.break_even))
    return [*shown, _search_cost(sweep), pays, *_spending(sweep.spending)]


def _spending(status: SpendingStatus | None) -> list[Tile]:
    """What is spent and left of the spending limit; nothing without one."""
    if status is None or status.limit is None or status.left is None:
        return []
    left = status.given.text(status.left, status.limit)
    remark = f"of {status.given}, {left} left; failed attempts and their lost segments included"
    return [Tile("spent of the limit", f"{status.spent / status.limit:.0%}", remark)]


def _ahead(data: FrontierData) -> tuple[str, str]:
    """At how many budgets staging is ahead, what is said of the others, and at how many at equal time."""
    undecided = [comparison for comparison in data.comparisons if comparison.verdict == "undecided"]
    rest = f"{len(undecided)} {undecided_text(undecided)}" if undecided else "95 % intervals apart"
    timed = data.by_measured_time
    at_equal_time = f"; at equal time at {ahead_count(timed)}" if timed else ""
    return ahead_count(data.comparisons), f"{rest}{at_equal_time}" if data.comparisons else "no budget in common"


def _against_other(kind: str, comparison: BudgetComparison | None) -> str:
    """What is decided about the best training and the other kind at its budget."""
    if comparison is None:
        return ""
    other = "baseline" if kind == "staged" else "staged training"
    if comparison.verdict == "undecided":
        return f"; not distinguishable from {other}" if comparison.has_intervals else f"; {verdict_text(comparison)}"
    return f", {'ahead of' if (comparison.verdict == 'ahead') == (kind == 'staged') else 'behind'} {other}"


def _search_cost(sweep: LoadedSweep) -> Tile:
    trials = sweep.all_trials
    spent, planned = in_full_trainings(trials, "executed_cost"), in_full_trainings(trials, "cost")
    shared = int(trials.shared_with.notna().sum())
    both_kinds = f" ({shared} trained once for both kinds)" if shared else ""
    saved = f"{planned:.1f} planned, the rest was shared" if spent < planned else "all planned training was executed"
    on_proxies = trials[trials.proxy.notna()]
    proxies = ""
    if len(on_proxies):
        proxies = f", {len(on_proxies)} of them on proxies for {in_full_trainings(on_proxies, 'executed_cost'):.2g}"
    reused = int(trials.reused_from.notna().sum())
    elsewhere = f", {reused} of them trained in other sweeps" if reused else ""
    remark = f"{len(trials)} trials{both_kinds}{proxies}{elsewhere}; {saved}"
    return Tile("search cost", f"{spent:.1f} full trainings" if spent >= 0.1 else f"{spent:.1g} full trainings", remark)
