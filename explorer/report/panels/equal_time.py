"""What staging gives at equal measured time: the curves over seconds, and the difference at each baseline's time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from explorer.frontier import MetricCurve
from explorer.frontier.comparison import MeanScore
from explorer.frontier.equal_time import TimeComparison, time_frontier
from explorer.report.frontier_data import FrontierData
from explorer.report.headline import verdict_text
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.frontier import TraceStyle, frontier_figure
from explorer.report.panels.panel import Column, Panel, Table
from explorer.report.units import CostUnit, significant
from explorer.spec.metric import ACCURACY, MetricSpec

COLUMNS = (
    Column("seconds", is_number=True),
    Column("baseline of"),
    Column("baseline, test", is_number=True),
    Column("staged at equal time", is_number=True),
    Column("gain", is_number=True),
    Column("staged is"),
)


@dataclass(frozen=True)
class EqualTimeData:
    """The frontier over time, its unit, and the comparisons at the times of the baselines."""

    frontier: FrontierData
    seconds: CostUnit
    comparisons: tuple[TimeComparison, ...]


def equal_time_table(comparisons: tuple[TimeComparison, ...], metric: MetricSpec = ACCURACY) -> Table:
    """One row per baseline; values of the metric with their 95 % intervals."""
    cells = tuple(
        (
            significant(each.seconds),
            str(each.comparison.budget),
            _with_interval(each.comparison.baseline, metric),
            _with_interval(each.comparison.staged, metric),
            metric.gain_text(each.comparison.gain),
            verdict_text(each.comparison),
        )
        for each in comparisons
    )
    return Table(COLUMNS, cells)


def _panel_data(sweep: LoadedSweep) -> EqualTimeData | None:
    if not sweep.data.at_equal_time:
        return None
    seconds = next(unit for unit in sweep.units if unit.key == "seconds")
    kept = time_frontier(sweep.data.curves)
    between = {kind: MetricCurve.through(kept[kept.kind == kind]) for kind in sweep.data.between}
    return EqualTimeData(replace(sweep.data, curves=kept, between=between), seconds, sweep.data.at_equal_time)


def _figure(data: EqualTimeData) -> go.Figure:
    figure = frontier_figure([(data.frontier, TraceStyle())], [data.seconds], single_runs=False, height=360)
    figure.update_xaxes(dtick="D2", title_text="measured seconds of training")  # ticks at 1, 2 and 5 of each decade
    return figure


def _with_interval(score: MeanScore, metric: MetricSpec) -> str:
    spread = "no interval" if math.isnan(score.low) else metric.interval_text(score.low, score.high)
    return f"{metric.score_text(score.mean)} ({spread})"


PANEL = Panel(
    name="equal-time",
    section="budgets",
    title="At equal time",
    note=(
        "Equal FLOPs are not equal time: a step at half of the rates takes more than a quarter of the time. Each baseline is "
        "compared with the staged training that takes no longer, interpolated between the measured times. What another of its "
        "kind beats in less time, on validation data, is left out. Times are those of training alone, with as many trials side "
        "by side as the sweep ran."
    ),
    data=_panel_data,
    figure=_figure,
    table=lambda data: equal_time_table(data.comparisons, data.frontier.metric),
    label="Test metric against measured seconds of training, staged schedules and baseline",
    missing=(
        "Times cannot be compared: the trials ran on several kinds of device, one of the two kinds of training is missing, or "
        "all baselines are quicker than any staged training."
    ),
)
