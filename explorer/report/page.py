"""The report of a sweep: a self-contained page, the frontier as a table, a schedule file for each budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from explorer.errors import InvalidInput
from explorer.frontier import candidates
from explorer.frontier.choice import schedule_with_provenance
from explorer.frontier.trials import describe
from explorer.ledger import Ledger
from explorer.report import sweep_facts
from explorer.report.chooser_panel import chooser_data, chooser_figure
from explorer.report.frontier_panel import FrontierData, TraceStyle, frontier_figure
from explorer.report.importance_panel import importance_data, importance_figure
from explorer.report.learning_panel import learning_data, learning_figure
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.parallel_panel import parallel_data, parallel_figure
from explorer.report.payload import Watch, figure_json, publish, render
from explorer.report.spending_panel import hypervolume_figure, sharing_figure, spending_data
from explorer.report.ternary_panel import ternary_data, ternary_figure
from explorer.report.timeline_panel import timeline_data, timeline_figure
from explorer.report.units import units
from explorer.report.workers_panel import workers_data, workers_figure
from explorer.spec.budget import Budget


@dataclass(frozen=True)
class Report:
    """Files that were written."""

    page: Path
    table: Path
    schedules: dict[str, Path]
    """By budget."""
    headline: str


def write_report(ledger: Ledger, out: str | Path, *, price: float | None = None, watch: int | None = None) -> Report:
    """Write `index.html`, `frontier.csv` and `schedules/<budget>.json` under `out`.

    Args:
        ledger: of the sweep.
        out: a folder; made when it is missing.
        price: of a device-hour, in any currency; the page then offers money as a unit.
        watch: seconds between two looks of the page whether it was written anew; None: it stays as it is.

    Raises:
        InvalidInput: when the sweep has no finished trial, the price is not above 0, or `out` cannot be written.
    """
    sweep = LoadedSweep.read(ledger)
    watching = Watch(watch) if watch else None
    content = page(sweep, price=price, watch=watching)
    out = Path(out)
    try:
        (out / "schedules").mkdir(parents=True, exist_ok=True)
        schedules = {}
        for _, winner in sweep.data.winners.iterrows():
            slug = Budget.parse(winner.budget).slug
            schedule = schedule_with_provenance(winner, sweep.trials, sweep.header)
            schedules[str(winner.budget)] = schedule.save(out / "schedules" / f"{slug}.json")
        table = out / "frontier.csv"
        frontier_table(sweep.data.curves).to_csv(table, index=False, float_format="%.6g")
        written = publish(out / "index.html", content, watching.stamp if watching else "")
    except OSError as error:
        raise InvalidInput("out", str(out), f"cannot be written: {error}") from None
    return Report(written, table, schedules, sweep.data.headline)


def frontier_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves as a flat table: the best of each kind at each budget."""
    table = curves.drop(columns=["schedule", "stages", "budget_amount", "confirmed"])
    table.insert(len(table.columns), "schedule", [describe(schedule) for schedule in curves.schedule])
    return table


def page(sweep: LoadedSweep, *, price: float | None = None, watch: Watch | None = None) -> str:
    """The page of one sweep, as HTML."""
    header, trials, data = sweep.header, sweep.trials, sweep.data
    cost_units = units(data.curves, price)
    chooser = chooser_data(data, candidates(trials), header, cost_units)
    figures, by_budget = _figures(trials, data)
    figures |= {"frontier": frontier_figure([(data, TraceStyle())], cost_units), "schedule": chooser_figure(data)}
    space = yaml.safe_dump(header.space.model_dump(mode="json"), sort_keys=False)
    payload = {
        "name": header.name,
        "units": [{"key": unit.key, "axis": unit.axis} for unit in cost_units],
        "figures": {name: figure_json(figure) for name, figure in figures.items()},
        "byBudget": {name: {budget: figure_json(each) for budget, each in found.items()} for name, found in by_budget.items()},
        "chooser": chooser,
        "space": space,
    }
    return render(
        "page.html",
        payload,
        watch,
        name=header.name,
        headline=data.headline,
        tiles=sweep_facts.tiles(data, trials),
        units=cost_units,
        positions=len(chooser["positions"]),
        rows=sweep_facts.budget_rows(data),
        has={name: name in {**figures, **by_budget} for name in ("importance", "parallel", "ternary", "learning")},
        sharing=sweep_facts.sharing(trials),
        ranks=sweep_facts.ranks(trials),
        failures=trials[trials.status == "failed"][["id", "reason"]].to_dict("records"),
        facts=sweep_facts.facts(header, trials),
        task=sweep_facts.task(header),
        commands=sweep_facts.commands(header, data),
        space=space,
    )


def _figures(trials: pd.DataFrame, data: FrontierData) -> tuple[dict[str, go.Figure], dict[str, dict[str, go.Figure]]]:
    """The figures that always show the whole sweep, and those that follow the chosen budget; only what there is data for."""
    spending = spending_data(trials)
    figures: dict[str, Any] = {
        "timeline": timeline_figure(timeline_data(data.winners)),
        "hypervolume": hypervolume_figure(spending),
        "sharing": sharing_figure(spending),
        "workers": workers_figure(workers_data(trials)),
    }
    importance, parallel = importance_data(trials), parallel_data(trials)
    if len(importance):
        figures["importance"] = importance_figure(importance)
    if len(parallel):
        figures["parallel"] = parallel_figure(parallel, dict(zip(data.curves.budget_amount, data.curves.budget, strict=True)))
    ternary, learning = ternary_data(trials), learning_data(trials, data.curves)
    by_budget = {}
    if ternary is not None:
        by_budget["ternary"] = {str(budget): ternary_figure(rows) for budget, rows in ternary.groupby("budget")}
    if len(learning):
        by_budget["learning"] = {str(budget): learning_figure(rows) for budget, rows in learning.groupby("budget")}
    return figures, by_budget
