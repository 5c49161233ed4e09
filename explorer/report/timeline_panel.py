"""The winning schedules: activation rates over budget time, a row for each axis of each budget."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from explorer.report.palette import LAYOUT, MUTED, RATE_SCALE
from explorer.schedule import shown_axes


def timeline_data(winners: pd.DataFrame) -> pd.DataFrame:
    """One row for each budget, axis and stage.

    Args:
        winners: one row a budget, with `budget` and `schedule`.

    Returns:
        Columns budget, axis, start and end (budget time in [0, 1]) and rate.
    """
    rows = []
    axes = shown_axes(stage.rates for schedule in winners.schedule for stage in schedule.stages)
    for winner in winners.itertuples():
        start = 0.0
        for stage in winner.schedule.stages:
            for axis in axes:
                rows.append((winner.budget, axis, start, start + stage.duration_ratio, getattr(stage.rates, axis)))
            start += stage.duration_ratio
    return pd.DataFrame(rows, columns=pd.Index(["budget", "axis", "start", "end", "rate"]))


def timeline_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the bars; darker is a higher rate, and the rate is written on it."""
    figure = go.Figure()
    budgets = list(dict.fromkeys(data.budget))
    figure.add_bar(
        orientation="h",
        y=[list(data.budget), list(data.axis)],
        x=data.end - data.start,
        base=data.start,
        marker={
            "color": data.rate,
            "colorscale": [list(stop) for stop in RATE_SCALE],
            "cmin": 0,
            "cmax": 1,
            "line": {"color": "white", "width": 1.5},
            "colorbar": {"title": "rate", "thickness": 12, "len": 0.9, "outlinewidth": 0},
        },
        text=[
            f"{rate:.3g}" if end - start >= 0.05 else ""
            for rate, start, end in zip(data.rate, data.start, data.end, strict=True)
        ],
        textposition="inside",
        insidetextanchor="middle",
        customdata=data[["start", "end"]],
        hovertemplate="%{y}: %{marker.color:.3g}<br>%{customdata[0]:.0%} to %{customdata[1]:.0%} of the budget<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(LAYOUT, height=90 + 78 * len(budgets), bargap=0.15, barmode="overlay")
    figure.update_layout(margin={"l": 110})
    figure.update_xaxes(title="budget time: share of the budget spent", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(autorange="reversed", dividercolor=MUTED, showdividers=True)
    return figure
