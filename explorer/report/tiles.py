"""The tiles below the headline: the numbers that matter most."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.frontier import knee
from explorer.frontier.trials import row_with_largest
from explorer.report.headline import match_verdict
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
    top = row_with_largest(winners, "test_mean")
    bend = knee(winners.cost, winners.test_mean)
    knee_tile = Tile("knee of the curve", "none", "")
    if bend is not None:
        at_knee = winners.iloc[bend]
        remark = f"{at_knee.test_mean:.1%}; above it, more cost gains less"
        knee_tile = Tile("knee of the curve", str(at_knee.budget), remark)
    return [
        Tile("staging matches full training at", *match_verdict(sweep.data.match)),
        Tile("best test accuracy", f"{top.test_mean:.1%}", f"at {top.budget}, {top.kind}"),
        knee_tile,
        _search_cost(sweep),
    ]


def _search_cost(sweep: LoadedSweep) -> Tile:
    trials = sweep.trials
    spent, planned = in_full_trainings(trials, "executed_flops"), in_full_trainings(trials, "planned_flops")
    shared = int(trials.shared_with.notna().sum())
    both_kinds = f" ({shared} trained once for both kinds)" if shared else ""
    saved = f"{planned:.1f} planned, the rest was shared" if spent < planned else "all planned training was executed"
    remark = f"{len(trials)} trials{both_kinds}; {saved}"
    return Tile("search cost", f"{spent:.1f} full trainings", remark)
