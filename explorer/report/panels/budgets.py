"""The best of each kind at each budget, as a table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from explorer.frontier.equal_time import measured_full_seconds, share_of_full_seconds
from explorer.frontier.trials import describe, rows
from explorer.ledger import Kind
from explorer.report.frontier_data import NEXT_TO, FrontierData
from explorer.report.headline import verdict_text
from explorer.report.panels.panel import Column, Panel, Table
from explorer.spec.metric import MetricSpec

COLUMNS = (
    Column("budget"),
    Column("training"),
    Column("test", is_number=True),
    Column("95 % interval"),
    Column("against baseline", wraps=True),
    Column("validation", is_number=True),
    Column("seconds", is_number=True),
    Column("of full, FLOPs", is_number=True),
    Column("of full, seconds", is_number=True),
    Column("steps", is_number=True),
    Column("LR, batch size"),
    Column("schedule", wraps=True),
)
AFTER_VALIDATION = 6
"""Place of the column of a second metric."""
DOUBLING = 2


def budgets_table(data: FrontierData) -> Table:
    """One row per budget and kind; the schedule to use at each budget is highlighted."""
    metric, winners, second = data.metric, set(data.winners.id), _second_metric(data)
    columns = list(COLUMNS)
    if second is not None:
        columns[AFTER_VALIDATION:AFTER_VALIDATION] = [Column(f"test {second.label}", is_number=True)]
    verdicts = {str(comparison.budget): verdict_text(comparison) for comparison in data.comparisons}
    full_seconds = measured_full_seconds(data.curves) if data.has_one_device else math.nan
    cells: tuple[tuple[str, ...], ...] = tuple(
        (
            str(row.budget),
            f"{row.kind}{' ◂ use this' if row.id in winners else ''}",
            metric.score_text(row.test_mean),
            metric.interval_text(row.test_low, row.test_high)
            if pd.notna(row.test_low)
            else "one seed"
            if row.seeds == 1
            else "none: equal seeds",
            verdicts.get(row.budget, "not compared") if row.kind == "staged" else "",
            metric.score_text(row.validation_mean),
            *([] if second is None else [_second(row)]),
            f"{row.train_seconds:.1f}",
            f"{row.planned_flops / row.full_flops:.1%}",
            _share_of_seconds(row, full_seconds),
            f"{row.steps:,.0f}",
            f"{row.learning_rate:.2g}, {row.batch_size}",
            describe(row.schedule),
        )
        for row in rows(data.curves)
    )
    cells += tuple(_predicted_row(data, kind, cost) for cost, kind in _untrained(data))
    highlighted = frozenset(number for number, row in enumerate(rows(data.curves)) if row.id in winners)
    return Table(tuple(columns), tuple(row + ("",) * (len(columns) - len(row)) for row in cells), highlighted)


def _second_metric(data: FrontierData) -> MetricSpec | None:
    """The second metric that was recorded; `None` without one."""
    second = data.curves.also.dropna()
    return None if second.empty else second.iloc[0]


def _second(row: Any) -> str:
    return "" if row.also is None else row.also.text(row.also_test)


def _untrained(data: FrontierData) -> list[tuple[float, Kind]]:
    """Costs above the measured ones of each predicted kind: doublings of the largest, and the last that is shown."""
    found = []
    for kind in data.predicted:
        largest, end = float(data.between[kind].costs[-1]), data.shown_to(kind)
        cost = DOUBLING * largest
        while cost < end / NEXT_TO:
            found.append((float(f"{cost:.2g}"), kind))
            cost *= DOUBLING
        if end > NEXT_TO * largest:
            found.append((end, kind))
    return sorted(found, key=lambda each: each[0])


def _predicted_row(data: FrontierData, kind: Kind, cost: float) -> tuple[str, ...]:
    mean, low, high = (float(values[0]) for values in data.predicted[kind].at([cost]))
    shown = (f"{100 * cost:.3g}%", f"{kind}, predicted", f"{mean:.1%}", f"{low:.1%} to {high:.1%}", "not trained")
    return shown + ("",) * (len(COLUMNS) - len(shown))


def _share_of_seconds(row: Any, full_seconds: float) -> str:
    share = share_of_full_seconds(row, full_seconds)
    measured = "" if pd.notna(row.planned_seconds) else " (measured)"
    return "not measured" if math.isnan(share) else f"{share:.1%}{measured}"


PANEL = Panel(
    name="budgets",
    section="budgets",
    note=lambda data: (
        f"The schedule to use has the better mean {data.metric.label} on validation data at its budget "
        f"({data.metric.better} is better). Staged training counts as ahead of the baseline, or behind it, only where the 95 % "
        "intervals of their means on test data are apart. Budgets marked as predicted were not trained; they are shares of "
        "full training."
    ),
    data=lambda sweep: sweep.data,
    table=budgets_table,
)
