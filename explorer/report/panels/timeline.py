"""Schedules over budget time: activation rates as bars, with the learning rate below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.frontier.trials import rows
from explorer.ledger import StageOutcome
from explorer.report.palette import AXIS, LAYOUT, MUTED, ON_DARK, ON_LIGHT, RATE_COLORS, SHARE_TICKS, STAGED, SURFACE
from explorer.report.panels.panel import Panel
from explorer.report.plotly_values import accepted
from explorer.spec.rates import Axis, shown_axes

MIN_LABELED_SHARE = 0.05
"""A shorter bar has no room for its rate."""
LIGHT_TEXT_FROM = 0.99
"""Bars of higher rates are so dark that text on them is light."""
AXIS_END = 1.001
"""End of the axis of budget time; at exactly 1, plotly leaves out the last tick."""
BAR_COLUMNS = ["axis", "start", "end", "rate"]


def step_amount(stage: StageOutcome) -> float:
    """Cost of a step of a stage in the sweep's currency: device-seconds where the sweep planned them, else FLOPs."""
    return stage.step_flops if stage.planned_seconds is None else stage.planned_seconds / stage.steps


def stage_shares(stages: Sequence[StageOutcome]) -> list[float]:
    """Shares of the stages in the cost of their schedule, in the sweep's currency."""
    costs = [stage.flops if stage.planned_seconds is None else stage.planned_seconds for stage in stages]
    return [cost / sum(costs) for cost in costs]


def stage_bars(stages: Sequence[StageOutcome], axes: Sequence[Axis]) -> pd.DataFrame:
    """One row per stage and axis: axis, start and end (budget time in [0, 1]) and the realized rate."""
    bars, start = [], 0.0
    for stage, share in zip(stages, stage_shares(stages), strict=True):
        end = start + share
        bars += [(axis, start, end, getattr(stage.rates, axis)) for axis in axes]
        start = end
    return pd.DataFrame(bars, columns=pd.Index(BAR_COLUMNS))


def timeline_data(winners: pd.DataFrame) -> pd.DataFrame:
    """The bars of several schedules.

    Args:
        winners: one row per budget, with `budget` and `stages`.

    Returns:
        The column budget and those of `stage_bars`.
    """
    axes = shown_axes(stage.rates for stages in winners.stages for stage in stages)
    parts = [stage_bars(row.stages, axes).assign(budget=row.budget) for row in rows(winners)]
    return pd.concat(parts, ignore_index=True)[["budget", *BAR_COLUMNS]]


def bar_arrays(bars: pd.DataFrame) -> dict[str, list[Any]]:
    """The arrays of a plotly bar trace, by its attributes."""
    long_enough = bars.end - bars.start >= MIN_LABELED_SHARE
    return {
        "x": (bars.end - bars.start).tolist(),
        "base": bars.start.tolist(),
        "color": [next(color for bound, color in RATE_COLORS if rate <= bound) for rate in bars.rate],
        "textcolor": [ON_DARK if rate > LIGHT_TEXT_FROM else ON_LIGHT for rate in bars.rate],
        "text": [f"{rate:.3g}" if shown else "" for rate, shown in zip(bars.rate, long_enough, strict=True)],
        "customdata": bars[["start", "end", "rate"]].to_numpy().tolist(),
    }


def timeline_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the schedules of all budgets, one below the other; darker is a higher rate, which is written on the bar."""
    figure = go.Figure()
    budgets = list(dict.fromkeys(data.budget))
    _add_bars(figure, [list(data.budget), list(data.axis)], data)
    bar_rows = len(data[["budget", "axis"]].drop_duplicates())
    figure.update_layout(LAYOUT, height=84 + 26 * bar_rows, bargap=0.15, barmode="overlay", margin={"t": 8})
    figure.update_xaxes(AXIS, title_text="budget time: share of the budget spent", range=[0, AXIS_END], **SHARE_TICKS)
    figure.update_yaxes(AXIS, autorange="reversed", dividercolor=MUTED, showdividers=len(budgets) > 1)
    return figure


def schedule_figure(bars: pd.DataFrame, time: Sequence[float], learning_rate: Sequence[float]) -> go.Figure:
    """Draw one schedule: its bars, and the learning rate over the same budget time."""
    axes = list(dict.fromkeys(bars.axis))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.55, 0.45])
    _add_bars(figure, list(bars.axis), bars, row=1, col=1)
    figure.add_scatter(
        x=list(time),
        y=list(learning_rate),
        mode="lines",
        line={"color": STAGED, "width": 2.5},
        hovertemplate="learning rate %{y:.2e} at %{x:.0%} of the budget<extra></extra>",
        showlegend=False,
        row=2,
        col=1,
    )
    figure.update_layout(LAYOUT, height=200 + 48 * len(axes), bargap=0.15, barmode="overlay", margin={"t": 8})
    figure.update_xaxes(AXIS, range=[0, AXIS_END], showgrid=False, **SHARE_TICKS)
    figure.update_xaxes(title_text="budget time: share of the budget spent", row=2, col=1)
    figure.update_yaxes(AXIS)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=axes[::-1], showgrid=False, row=1, col=1)
    figure.update_yaxes(title_text="learning rate", rangemode="tozero", exponentformat="e", nticks=4, row=2, col=1)
    return figure


def _add_bars(figure: go.Figure, y: list[Any], bars: pd.DataFrame, **where: Any) -> None:
    arrays = bar_arrays(bars)
    figure.add_bar(
        orientation="h",
        y=accepted(y),
        x=arrays["x"],
        base=arrays["base"],
        marker={"color": arrays["color"], "line": {"color": SURFACE, "width": 1.5}},
        text=arrays["text"],
        textposition="inside",
        insidetextanchor="middle",
        insidetextfont={"color": arrays["textcolor"]},
        customdata=accepted(arrays["customdata"]),
        hovertemplate="%{y}: %{customdata[2]:.3g}<br>%{customdata[0]:.0%} to %{customdata[1]:.0%} of the budget<extra></extra>",
        showlegend=False,
        **where,
    )


PANEL = Panel(
    name="timeline",
    section="budgets",
    title="The schedules to use",
    note="Realized activation rates over budget time; darker is more of the model.",
    data=lambda sweep: timeline_data(sweep.data.winners),
    figure=timeline_figure,
    label="Activation rates over budget time of the schedule to use at each budget",
)
