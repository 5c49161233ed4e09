"""The report of a sweep: a self-contained page, the frontier as a table, a schedule file for each budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.files import refused_if_unwritable, write_file
from explorer.frontier.choice import schedule_with_provenance
from explorer.frontier.trials import describe, metric_of
from explorer.ledger import Ledger
from explorer.paths import expanded
from explorer.report.html import publish, render
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.notices import notices
from explorer.report.panels import SECTIONS, Panel, Section, Table, with_panels
from explorer.report.panels.chooser import ChooserData
from explorer.report.panels.facts import FactsData
from explorer.report.payload import FigurePayload, PagePayload, WatchPayload, figure_payload, units_payload
from explorer.report.tiles import tiles
from explorer.report.trained_on import subject
from explorer.spec.budget import Budget


@dataclass(frozen=True)
class Report:
    """The files of a report, and its headline."""

    page: Path
    table: Path
    schedules: dict[str, Path]
    """Schedule file of each budget, by the budget as text."""
    headline: str


@dataclass(frozen=True)
class PanelContent:
    """A panel with the data of one sweep."""

    panel: Panel[Any]
    data: Any
    """`None` if there is nothing to show."""
    figure: go.Figure | Mapping[str, go.Figure] | None = None
    table: Table | None = None
    note: str = ""

    @property
    def follows_budget(self) -> bool:
        """True if there is a figure for each budget."""
        return self.figure is not None and not isinstance(self.figure, go.Figure)


@dataclass(frozen=True)
class SectionContent:
    """A section with its panels; panels of half width that follow one another share a row."""

    section: Section
    rows: list[list[PanelContent]] = field(default_factory=list)


def write_report(
    ledger: Ledger,
    out: str | Path,
    *,
    price: float | None = None,
    watch: int | None = None,
    panels: Sequence[Panel[Any] | str] = (),
) -> Report:
    """Write `index.html`, `frontier.csv` and `schedules/<budget>.json` under `out`.

    Args:
        ledger: the ledger of the sweep.
        out: a folder; created if it is missing.
        price: price of a device-hour, in any currency; the page then offers money as a unit of cost.
        watch: seconds between two checks of an open page for a newer one; `None` disables them.
        panels: panels to show in addition, each a `Panel` or a reference to one, `package.module:name`.

    Raises:
        InvalidInput: when the sweep has no finished trial, the price is not above 0, a panel cannot be loaded, or `out` cannot
            be written.
    """
    sweep = LoadedSweep.read(ledger, price=price)
    watching = WatchPayload(watch) if watch else None
    content = page(sweep, watch=watching, panels=panels)
    out = Path(expanded(out, "out"))
    schedules = {}
    with refused_if_unwritable("out", out):
        for _, winner in sweep.data.winners.iterrows():
            budget = Budget.parse(winner.budget)
            schedule = schedule_with_provenance(winner, sweep.trials, sweep.header, sweep.step_times)
            schedules[str(budget)] = schedule.save(out / "schedules" / f"{budget.slug}.json")
        table = write_file(out / "frontier.csv", frontier_table(sweep.data.curves).to_csv(index=False, float_format="%.6g"))
        written = publish(out / "index.html", content, watching.stamp if watching else "")
    return Report(written, table, schedules, sweep.data.summary)


def frontier_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The best of each kind at each budget as a flat table. Means and bounds are values of the metric, as people read them."""
    metric = metric_of(curves)
    values = {name: metric.values(curves[name]) for name in ("validation_mean", "test_mean", "test_low", "test_high")}
    if metric.direction == "minimize":
        values["test_low"], values["test_high"] = values["test_high"], values["test_low"]
    values["metric"] = metric.name
    table = curves.assign(**values).drop(
        columns=["schedule", "stages", "test_correct", "budget_amount", "budget_unit", "repeated"]
    )
    second = curves.also.dropna()
    if second.empty:
        table = table.drop(columns=["also", "also_validation", "also_test"])
    else:
        table["also"] = second.iloc[0].name
    table.insert(len(table.columns), "schedule", [describe(schedule) for schedule in curves.schedule])
    return table


def page(sweep: LoadedSweep, *, watch: WatchPayload | None = None, panels: Sequence[Panel[Any] | str] = ()) -> str:
    """The page of one sweep, as HTML."""
    contents = panel_contents(sweep, with_panels(panels))
    return render(
        "page.html",
        page_payload(sweep, contents, watch),
        name=sweep.header.name,
        headline=sweep.data.summary,
        metric=sweep.data.metric.label,
        subject=subject(sweep.header),
        notices=notices(sweep.header, sweep.all_trials, sweep.failed_attempts, sweep.transfers, sweep.note),
        tiles=tiles(sweep),
        units=sweep.units,
        sections=_sections(contents),
    )


def panel_contents(sweep: LoadedSweep, panels: Sequence[Panel[Any]]) -> list[PanelContent]:
    """The panels with their data, figures and tables; those that have nothing to show are left out, or say so."""
    contents = []
    for panel in panels:
        data = panel.data(sweep)
        if data is not None:
            figure = panel.figure(data) if panel.figure else None
            table = panel.table(data) if panel.table else None
            note = panel.note if isinstance(panel.note, str) else panel.note(data)
            contents.append(PanelContent(panel, data, figure, table, note))
        elif panel.missing:
            contents.append(PanelContent(panel, None))
    return contents


def page_payload(sweep: LoadedSweep, contents: Sequence[PanelContent], watch: WatchPayload | None = None) -> PagePayload:
    """What the page's script needs."""
    chooser = next((content.data for content in contents if isinstance(content.data, ChooserData)), None)
    facts = next((content.data for content in contents if isinstance(content.data, FactsData)), None)
    return PagePayload(
        name=sweep.header.name,
        units=units_payload(sweep.units),
        figures=figure_payloads(contents),
        chooser=chooser.payload if chooser else None,
        space=facts.space if facts else None,
        watch=watch,
    )


def figure_payloads(contents: Sequence[PanelContent]) -> tuple[FigurePayload, ...]:
    """The figures of panels that have one."""
    return tuple(
        figure_payload(content.panel.name, content.figure, lazy=content.panel.lazy or content.panel.is_folded)
        for content in contents
        if content.figure is not None
    )


def _sections(contents: Sequence[PanelContent]) -> list[SectionContent]:
    sections = []
    for section in SECTIONS:
        content = SectionContent(section)
        for each in contents:
            if each.panel.section != section.name:
                continue
            shares_row = bool(content.rows) and each.panel.half_width and content.rows[-1][0].panel.half_width
            if shares_row and len(content.rows[-1]) < 2:
                content.rows[-1].append(each)
            else:
                content.rows.append([each])
        if content.rows:
            sections.append(content)
    return sections
