"""How to divide the budget among three stages: a triangle of their shares, with the metric as a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.settings import FULL_SHARE, settings_table
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import FONT, INK, LAYOUT, MUTED, SCORE_SCALE, SURFACE, metric_bar
from explorer.report.panels.panel import Panel
from explorer.report.plotly_values import accepted
from explorer.spec.metric import ACCURACY, MetricSpec

BELOW = {"orientation": "h", "x": 0.5, "y": -0.12, "xanchor": "center", "yanchor": "top", "len": 0.9}
"""Place of the legend of the colors: beside the triangle it would cover a label on a narrow page."""
SHARES = ("share 1", "share 2", FULL_SHARE)
MIN_TRIALS = 8
"""A surface through fewer trials would show more than was measured."""
SURFACE_CELLS = 30
"""Cells along a side of the surface."""
KERNEL_WIDTH = 0.08
"""Standard deviation of the Gaussian kernel that smooths values, in shares of the budget."""
SURFACE_REACH = 0.15
"""Distance from the nearest trial at which the surface ends, in shares of the budget."""


def ternary_data(trials: pd.DataFrame) -> pd.DataFrame | None:
    """Shares of three stages and the metric for every staged search trial of budgets with at least `MIN_TRIALS`; `None` unless
    schedules have three stages.

    Returns:
        Columns budget, `share 1`, `share 2`, `full share`, validation, id.
    """
    table = settings_table(trials)
    if not set(SHARES) <= set(table.columns) or "share 3" in table.columns:
        return None
    table = table[table.groupby("budget").id.transform("size") >= MIN_TRIALS]
    if table.empty:
        return None
    return table[["budget", *SHARES, "validation", "id"]]


def surface_data(trials: pd.DataFrame) -> pd.DataFrame:
    """Values of the metric smoothed over the trials of one budget (a mean weighted by a Gaussian kernel), whatever their rates.

    Args:
        trials: rows of `ternary_data` at one budget.

    Returns:
        The three shares and validation, at evenly spaced points no farther than `SURFACE_REACH` from a trial.
    """
    steps = np.arange(SURFACE_CELLS + 1) / SURFACE_CELLS
    first, second = (grid.ravel() for grid in np.meshgrid(steps, steps))
    within = first + second <= 1 + 1e-9
    points_PS = np.stack([first, second, 1 - first - second], axis=1)[within].clip(0, 1)
    measured_TS = trials[list(SHARES)].to_numpy(float)
    squared_PT = ((points_PS[:, None] - measured_TS[None]) ** 2).sum(axis=2) / 2
    near = squared_PT.min(axis=1) <= SURFACE_REACH**2
    weights_PT = np.exp(-squared_PT[near] / (2 * KERNEL_WIDTH**2))
    smoothed_P = weights_PT @ trials.validation.to_numpy(float) / weights_PT.sum(axis=1)
    return pd.DataFrame(points_PS[near], columns=pd.Index(SHARES)).assign(validation=smoothed_P)


def ternary_figure(trials: pd.DataFrame, metric: MetricSpec = ACCURACY) -> go.Figure:
    """Draw one budget: the surface as small hexagons, with the trials as circles on it."""
    surface = surface_data(trials)
    low, high = trials.validation.min(), trials.validation.max()
    colors = {"colorscale": SCORE_SCALE, "cmin": low, "cmax": high}
    hover = "stage 1 %{a:.0%}, stage 2 %{b:.0%}, full model %{c:.0%}<br>"
    figure = go.Figure()
    figure.add_scatterternary(
        a=surface[SHARES[0]],
        b=surface[SHARES[1]],
        c=surface[SHARES[2]],
        mode="markers",
        marker={"color": surface.validation, "symbol": "hexagon", "size": 13, "opacity": 0.55, **colors},
        hovertemplate=hover + f"%{{marker.color:{metric.number_format}}} (smoothed)<extra></extra>",
        showlegend=False,
    )
    figure.add_scatterternary(
        a=trials[SHARES[0]],
        b=trials[SHARES[1]],
        c=trials[SHARES[2]],
        mode="markers",
        marker={
            "color": trials.validation,
            "size": 9,
            "line": {"color": SURFACE, "width": 1.5},
            "colorbar": {**metric_bar("validation", metric), **BELOW},
            **colors,
        },
        text=accepted(trials.id),
        customdata=accepted([[name] for name in trials.id]),
        hovertemplate=f"%{{text}}: %{{marker.color:{metric.number_format}}}<br>" + hover + "<extra></extra>",
        showlegend=False,
    )
    axes = {
        axis: {
            "title": {"text": name, "font": {"size": 13, "family": FONT, "color": INK}},
            "tickformat": ".0%",
            "tickfont": {"size": 11, "color": MUTED},
            "nticks": 6,
            "gridcolor": "rgba(128,128,128,0.25)",
            "linecolor": MUTED,
        }
        for axis, name in zip(("aaxis", "baxis", "caxis"), ("stage 1", "stage 2", "full model"), strict=True)
    }
    figure.update_layout(LAYOUT, height=460, margin={"l": 64, "r": 64, "t": 40, "b": 100})
    figure.update_layout(ternary={"bgcolor": SURFACE, **axes})
    return figure


@dataclass(frozen=True)
class TernaryData:
    """The table that `ternary_data` returns, and its metric."""

    trials: pd.DataFrame
    metric: MetricSpec


def _panel_data(sweep: LoadedSweep) -> TernaryData | None:
    trials = ternary_data(sweep.trials)
    return None if trials is None else TernaryData(trials, sweep.data.metric)


PANEL = Panel(
    name="ternary",
    section="settings",
    title="How to divide the budget among three stages",
    note=(
        "In a corner, one stage has all of the budget. Circles are trials; the surface is the smoothed metric on validation "
        "images, whatever their rates."
    ),
    data=_panel_data,
    figure=lambda data: {
        str(budget): ternary_figure(at_budget, data.metric) for budget, at_budget in data.trials.groupby("budget")
    },
    label="The metric over the shares of three stages",
    half_width=True,
)
