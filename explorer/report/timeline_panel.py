"""Schedules over budget time: activation rates as bars, the learning rate under them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.ledger import StageOutcome
from explorer.report.palette import AXIS, INK, LAYOUT, MUTED, RATE_COLOURS, SHARE_TICKS, STAGED, SURFACE
from explorer.spec.rates import Axis, shown_axes

NARROW = 0.05
"""A bar that is shorter has no room for its rate."""
LIGHT_TEXT_FROM = 0.6
"""Bars of higher rates are so dark (on a dark page so light) that the text on them has the page's colour."""
BAR_COLUMNS = ["axis", "start", "end", "rate"]


def stage_bars(stages: Sequence[StageOutcome], axes: Sequence[Axis]) -> pd.DataFrame:
    """One row a stage and axis: axis, start and end (budget time in [0, 1]) and the realised rate."""
    total = sum(stage.flops for stage in stages)
    rows, start = [], 0.0
    for stage in stages:
        end = start + stage.flops / total
        rows += [(axis, start, end, getattr(stage.rates, axis)) for axis in axes]
        start = end
    return pd.DataFrame(rows, columns=pd.Index(BAR_COLUMNS))


def timeline_data(winners: pd.DataFrame) -> pd.DataFrame:
    """The bars of several schedules.

    Args:
        winners: one row a budget, with `budget` and `stages`.

    Returns:
        Columns budget and those of `stage_bars`.
    """
    axes = shown_axes(stage.rates for stages in winners.stages for stage in stages)
    parts = [stage_bars(row.stages, axes).assign(budget=row.budget) for row in winners.itertuples()]
    return pd.concat(parts, ignore_index=True)[["budget", *BAR_COLUMNS]]


def bar_arrays(bars: pd.DataFrame) -> dict[str, list[object]]:
    """What a plotly bar trace is made of."""
    long_enough = bars.end - bars.start >= NARROW
    return {
        "x": (bars.end - bars.start).tolist(),
        "base": bars.start.tolist(),
        "color": [next(colour for bound, colour in RATE_COLOURS if rate <= bound) for rate in bars.rate],
        "textcolor": [SURFACE if rate > LIGHT_TEXT_FROM else INK for rate in bars.rate],
        "text": [f"{rate:.3g}" if shown else "" for rate, shown in zip(bars.rate, long_enough, strict=True)],
        "customdata": bars[["start", "end", "rate"]].to_numpy().tolist(),
    }


def timeline_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the winners of all budgets, one under the other; darker is a higher rate, and the rate is written on it."""
    figure = go.Figure()
    budgets = list(dict.fromkeys(data.budget))
    _add_bars(figure, [list(data.budget), list(data.axis)], data)
    rows = len(data[["budget", "axis"]].drop_duplicates())
    figure.update_layout(LAYOUT, height=84 + 26 * rows, bargap=0.15, barmode="overlay", margin={"t": 8})
    figure.update_xaxes(AXIS, title_text="budget time: share of the budget spent", range=[0, 1], **SHARE_TICKS)
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
    figure.update_xaxes(AXIS, range=[0, 1], showgrid=False, **SHARE_TICKS)
    figure.update_xaxes(title_text="budget time: share of the budget spent", row=2, col=1)
    figure.update_yaxes(AXIS)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=axes[::-1], showgrid=False, row=1, col=1)
    figure.update_yaxes(title_text="learning rate", rangemode="tozero", exponentformat="e", nticks=4, row=2, col=1)
    return figure


def _add_bars(figure: go.Figure, y: list[object], bars: pd.DataFrame, **where: int) -> None:
    arrays = bar_arrays(bars)
    figure.add_bar(
        orientation="h",
        y=y,
        x=arrays["x"],
        base=arrays["base"],
        marker={"color": arrays["color"], "line": {"color": SURFACE, "width": 1.5}},
        text=arrays["text"],
        textposition="inside",
        insidetextanchor="middle",
        insidetextfont={"color": arrays["textcolor"]},
        customdata=arrays["customdata"],
        hovertemplate="%{y}: %{customdata[2]:.3g}<br>%{customdata[0]:.0%} to %{customdata[1]:.0%} of the budget<extra></extra>",
        showlegend=False,
        **where,
    )
