"""The report of a sweep: a self-contained page, the frontier as a table, a schedule file for each budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import yaml
from jinja2 import Environment, PackageLoader, select_autoescape
from plotly.offline import get_plotlyjs

from explorer.budget import Budget
from explorer.errors import InvalidInput
from explorer.frontier import hypervolume, trials_frame
from explorer.frontier.choice import schedule_with_provenance
from explorer.frontier.ranks import rank_correlations
from explorer.frontier.trials import describe
from explorer.ledger import Ledger, SweepHeader
from explorer.report.frontier_panel import FrontierData, frontier_data, frontier_figure
from explorer.report.timeline_panel import timeline_data, timeline_figure


@dataclass(frozen=True)
class Report:
    """Files that were written."""

    page: Path
    table: Path
    schedules: dict[str, Path]
    """By budget."""
    headline: str


def write_report(ledger: Ledger, out: str | Path) -> Report:
    """Write `index.html`, `frontier.csv` and `schedules/<budget>.json` under `out`.

    Raises:
        InvalidInput: when the sweep has no finished trial, or `out` cannot be written.
    """
    header = ledger.header()
    trials = trials_frame(ledger.records())
    if not (trials.status == "completed").any():
        failed = int((trials.status == "failed").sum())
        raise InvalidInput("sweep", ledger.location, f"has no finished trial yet ({failed} failed); nothing to report")
    data = frontier_data(trials)
    out = Path(out)
    try:
        (out / "schedules").mkdir(parents=True, exist_ok=True)
        schedules = {}
        winners = data.curves.loc[data.curves.groupby("budget_amount").validation_mean.idxmax()]
        for _, winner in winners.iterrows():
            slug = Budget.parse(winner.budget).slug
            schedule = schedule_with_provenance(winner, trials, header)
            schedules[str(winner.budget)] = schedule.save(out / "schedules" / f"{slug}.json")
        table = out / "frontier.csv"
        frontier_table(data.curves).to_csv(table, index=False, float_format="%.6g")
        page = out / "index.html"
        page.write_text(_page(header, trials, data, winners), encoding="utf-8")
    except OSError as error:
        raise InvalidInput("out", str(out), f"cannot be written: {error}") from None
    return Report(page, table, schedules, data.headline)


def frontier_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves as a flat table: the best of each kind at each budget."""
    table = curves.drop(columns=["schedule", "budget_amount", "confirmed"])
    table.insert(len(table.columns), "schedule", [describe(schedule) for schedule in curves.schedule])
    return table


def _page(header: SweepHeader, trials: pd.DataFrame, data: FrontierData, winners: pd.DataFrame) -> str:
    environment = Environment(
        loader=PackageLoader("explorer.report"), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    staged = data.curves[data.curves.kind == "staged"]
    baseline = data.curves[data.curves.kind == "baseline"]
    return environment.get_template("page.html").render(
        name=header.name,
        headline=data.headline,
        plotly_js=get_plotlyjs(),
        frontier=_div(frontier_figure(data), "frontier"),
        timeline=_div(timeline_figure(timeline_data(winners)), "timeline"),
        rows=_rows(data.curves, winners),
        failures=trials[trials.status == "failed"][["id", "reason"]].to_dict("records"),
        facts={
            "model": header.space["model"]["name"],
            "data": header.space["data"]["name"],
            "trials": f"{len(trials)}, {int((trials.status == 'failed').sum())} failed",
            "training spent": f"{trials.executed_flops.sum() / trials.full_flops.max():.1f} full trainings "
            f"(planned {trials.planned_flops.sum() / trials.full_flops.max():.1f}; the rest was shared), "
            f"{trials.executed_seconds.fillna(trials.train_seconds).sum() / 60:.0f} device-minutes",
            "ranks carry over": _ranks(trials),
            "hypervolume, staged": f"{hypervolume(staged.cost, staged.test_mean):.3f}",
            "hypervolume, full model": f"{hypervolume(baseline.cost, baseline.test_mean):.3f}",
            "hardware": header.hardware,
            "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header.created)),
            "versions": ", ".join(f"{name} {number}" for name, number in header.versions.items()),
            "commit": header.git_commit or "unknown",
        },
        space=yaml.safe_dump(header.space, sort_keys=False),
    )


def _ranks(trials: pd.DataFrame) -> str:
    """Rank correlations between neighbouring budgets, in words."""
    said = [
        f"{row.budget} to {row.next_budget}: "
        + (f"{row.spearman:.2f} ({row.common} trials)" if pd.notna(row.spearman) else f"too few in common ({row.common})")
        for row in rank_correlations(trials).itertuples()
    ]
    return "Spearman, of trials at both budgets: " + "; ".join(said) if said else "one budget alone"


def _rows(curves: pd.DataFrame, winners: pd.DataFrame) -> list[dict[str, str | bool]]:
    """The table under the figures, as text."""
    rows: list[dict[str, str | bool]] = []
    for row in curves.itertuples():
        spread = f"{row.test_low:.1%} to {row.test_high:.1%}" if pd.notna(row.test_low) else "one seed"
        rows.append(
            {
                "budget": str(row.budget),
                "kind": "staged" if row.kind == "staged" else "full model",
                "test": f"{row.test_mean:.1%}",
                "interval": spread,
                "validation": f"{row.validation_mean:.1%}",
                "seconds": f"{row.train_seconds:.1f}",
                "settings": f"{row.learning_rate:.2g}, {row.batch_size}",
                "schedule": describe(row.schedule),
                "winner": row.id in set(winners.id),
            }
        )
    return rows


def _div(figure: go.Figure, name: str) -> str:
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
    )
    return html
