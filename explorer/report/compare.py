"""Several sweeps in one page: two models, two recipes, two releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from explorer.differences import differences, flattened
from explorer.errors import InvalidInput
from explorer.files import refused_if_unwritable
from explorer.frontier.trials import row_with_largest
from explorer.ledger import Ledger
from explorer.paths import expanded
from explorer.report.headline import ahead_count, match_verdict
from explorer.report.html import publish, render
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import SWEEPS
from explorer.report.panels import Column, Table
from explorer.report.panels.budgets import budgets_table
from explorer.report.panels.facts import facts
from explorer.report.panels.frontier import TraceStyle, frontier_figure
from explorer.report.payload import PagePayload, WatchPayload, figure_payload, units_payload
from explorer.report.trained_on import data_text
from explorer.report.units import cost_units

MAX_DIFFERENCES = 12
"""Differing settings that are listed for a sweep."""
SWEEP_COLUMNS = (
    Column("sweep"),
    Column("model"),
    Column("data"),
    Column("full training, FLOPs", is_number=True),
    Column("staging matches it at", is_number=True),
    Column("best on test data", is_number=True),
    Column("staging ahead at"),
)


@dataclass(frozen=True)
class NamedSweep:
    """A sweep with the name that it has in the page, and its facts."""

    name: str
    sweep: LoadedSweep
    facts: dict[str, str]

    @property
    def headline(self) -> str:
        """What the sweep shows."""
        return self.sweep.data.summary


def write_comparison(
    ledgers: Sequence[Ledger], out: str | Path, *, price: float | None = None, watch: int | None = None
) -> Path:
    """Write `index.html` with the frontiers of several sweeps in one figure.

    Args:
        ledgers: the ledgers of two to six sweeps.
        out: a folder; created if it is missing.
        price: price of a device-hour; the page then offers money as a unit of cost.
        watch: seconds between two checks of an open page for a newer one; `None` disables them.

    Raises:
        InvalidInput: for more sweeps than there are colors, a sweep without a finished trial, or when `out` cannot be written.
    """
    if len(ledgers) > len(SWEEPS):
        raise InvalidInput("sweeps", len(ledgers), f"at most {len(SWEEPS)} can be told apart in one page")
    watching = WatchPayload(watch) if watch else None
    content = comparison_page([LoadedSweep.read(ledger) for ledger in ledgers], price=price, watch=watching)
    with refused_if_unwritable("out", out):
        return publish(Path(expanded(out, "out")) / "index.html", content, watching.stamp if watching else "")


def comparison_page(sweeps: Sequence[LoadedSweep], *, price: float | None = None, watch: WatchPayload | None = None) -> str:
    """The page, as HTML.

    Raises:
        InvalidInput: when the sweeps were measured by different metrics.
    """
    names = _names(sweeps)
    if len(metrics := {sweep.data.metric for sweep in sweeps}) > 1:
        given = " and ".join(sorted(f"{each.label} ({each.unit or 'no unit'}, {each.better} is better)" for each in metrics))
        raise InvalidInput("sweep", names, f"must have one metric, to be compared on one axis: they have {given}")
    (metric,) = metrics
    currencies = {sweep.data.currency for sweep in sweeps}
    shared = currencies.pop() if len(currencies) == 1 else "flops"
    units = cost_units(pd.concat([sweep.data.shown_budgets for sweep in sweeps]), price, several=True, currency=shared)
    full_costs = {(sweep.data.full_flops, sweep.data.full_cost) for sweep in sweeps}
    if currencies:  # a fraction is of another currency in each sweep
        units = [unit for unit in units if unit.key != "fraction"]
    elif len(full_costs) > 1:  # fractions of different full trainings are not a common measure
        units = [*units[1:2], *units[:1], *units[2:]]
    styles = [TraceStyle(color, color, f"{name}: ") for color, name in zip(SWEEPS, names, strict=False)]
    figure = frontier_figure([(sweep.data, style) for sweep, style in zip(sweeps, styles, strict=True)], units)
    differing = _differing_settings(sweeps)
    named = [
        NamedSweep(name, sweep, {"differs in": settings, **facts(sweep.header, sweep.all_trials)})
        for name, sweep, settings in zip(names, sweeps, differing, strict=True)
    ]
    title = " and ".join(names)
    payload = PagePayload(name=title, units=units_payload(units), figures=(figure_payload("frontier", figure),), watch=watch)
    return render(
        "compare.html",
        payload,
        name=title,
        metric=metric.label,
        units=units,
        full_costs_differ=len(full_costs) > 1,
        sweeps=named,
        sweeps_table=Table(SWEEP_COLUMNS, tuple(_summary(each) for each in named)),
        budgets=_all_budgets(named),
    )


def _names(sweeps: Sequence[LoadedSweep]) -> list[str]:
    """The names of the sweeps; equal ones are numbered."""
    names = [sweep.header.name for sweep in sweeps]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _summary(named: NamedSweep) -> tuple[str, ...]:
    data, task = named.sweep.data, named.sweep.header.space.task
    best = row_with_largest(data.curves, "test_mean")
    return (
        named.name,
        task.model.name,
        data_text(task.data),
        f"{data.full_flops:.3g}",
        match_verdict(data.match)[0],
        f"{data.metric.score_text(best.test_mean)} at {best.budget}",
        ahead_count(data.comparisons),
    )


def _all_budgets(named: Sequence[NamedSweep]) -> Table:
    """The tables of all sweeps in one, with a first column that names the sweep. Columns that a sweep lacks are empty there."""
    tables = [(each.name, budgets_table(each.sweep.data)) for each in named]
    widest = max((table for _, table in tables), key=lambda table: len(table.columns))
    columns = list(widest.columns)
    for _, table in tables:
        columns += [column for column in table.columns if column not in columns]
    by_column = [(name, dict(zip(table.columns, row, strict=True))) for name, table in tables for row in table.rows]
    cells = tuple((name, *(row.get(column, "") for column in columns)) for name, row in by_column)
    chosen = [number in table.highlighted for _, table in tables for number in range(len(table.rows))]
    highlighted = frozenset(number for number, is_chosen in enumerate(chosen) if is_chosen)
    return Table((Column("sweep"), *columns), cells, highlighted)


def _differing_settings(sweeps: Sequence[LoadedSweep]) -> list[str]:
    """What each search space has where the search spaces differ from one another."""
    spaces = [sweep.header.space.model_dump(mode="json") for sweep in sweeps]
    differing = (difference.field for space in spaces[1:] for difference in differences(spaces[0], space, ignored=("name",)))
    fields = list(dict.fromkeys(differing))
    values = [flattened(space) for space in spaces]
    listed = [[f"{field} {each.get(field, 'default')}" for field in fields[:MAX_DIFFERENCES]] for each in values]
    more = f", and {len(fields) - MAX_DIFFERENCES} more" if len(fields) > MAX_DIFFERENCES else ""
    return [", ".join(settings) + more if settings else "nothing" for settings in listed]
