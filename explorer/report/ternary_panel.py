"""How the budget is best divided among three stages: a triangle of their shares, with the accuracy as a surface."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.settings import FULL_SHARE, settings_table
from explorer.report.palette import ACCURACY_SCALE, FONT, INK, LAYOUT, MUTED, SURFACE, accuracy_bar

SHARES = ("share 1", "share 2", FULL_SHARE)
UNITS = 30
"""Cells along a side of the surface."""
WIDTH = 0.08
"""Standard deviation of the Gaussian kernel that smooths accuracies, in shares of the budget."""
REACH = 0.15
"""The surface ends so far from the nearest trial."""


def ternary_data(trials: pd.DataFrame) -> pd.DataFrame | None:
    """Shares of three stages and accuracy for every staged search trial; None where schedules have not three stages.

    Returns:
        Columns budget, `share 1`, `share 2`, `full share`, validation_accuracy, id.
    """
    table = settings_table(trials)
    if not set(SHARES) <= set(table.columns) or "share 3" in table.columns:
        return None
    return table[["budget", *SHARES, "validation_accuracy", "id"]]


def surface_data(trials: pd.DataFrame) -> pd.DataFrame:
    """Accuracies smoothed over one budget's trials (a mean weighted by a Gaussian kernel), whatever their rates.

    Args:
        trials: rows of `ternary_data` at one budget.

    Returns:
        The three shares and validation_accuracy, at evenly spaced points no farther than `REACH` from a trial.
    """
    steps = np.arange(UNITS + 1) / UNITS
    first, second = (grid.ravel() for grid in np.meshgrid(steps, steps))
    within = first + second <= 1 + 1e-9
    points_PS = np.stack([first, second, 1 - first - second], axis=1)[within].clip(0, 1)
    measured_TS = trials[list(SHARES)].to_numpy(float)
    squared_PT = ((points_PS[:, None] - measured_TS[None]) ** 2).sum(axis=2) / 2
    near = squared_PT.min(axis=1) <= REACH**2
    weights_PT = np.exp(-squared_PT[near] / (2 * WIDTH**2))
    smoothed_P = weights_PT @ trials.validation_accuracy.to_numpy(float) / weights_PT.sum(axis=1)
    return pd.DataFrame(points_PS[near], columns=pd.Index(SHARES)).assign(validation_accuracy=smoothed_P)


def ternary_figure(trials: pd.DataFrame) -> go.Figure:
    """Draw one budget: the surface as small hexagons, the trials as circles on it."""
    surface = surface_data(trials)
    low, high = trials.validation_accuracy.min(), trials.validation_accuracy.max()
    colours = {"colorscale": ACCURACY_SCALE, "cmin": low, "cmax": high}
    hover = "stage 1 %{a:.0%}, stage 2 %{b:.0%}, full model %{c:.0%}<br>"
    figure = go.Figure()
    figure.add_scatterternary(
        a=surface[SHARES[0]],
        b=surface[SHARES[1]],
        c=surface[SHARES[2]],
        mode="markers",
        marker={"color": surface.validation_accuracy, "symbol": "hexagon", "size": 13, "opacity": 0.55, **colours},
        hovertemplate=hover + "about %{marker.color:.1%} (smoothed)<extra></extra>",
        showlegend=False,
    )
    figure.add_scatterternary(
        a=trials[SHARES[0]],
        b=trials[SHARES[1]],
        c=trials[SHARES[2]],
        mode="markers",
        marker={
            "color": trials.validation_accuracy,
            "size": 9,
            "line": {"color": SURFACE, "width": 1.5},
            "colorbar": {**accuracy_bar("validation"), "x": 1.08},
            **colours,
        },
        text=trials.id,
        customdata=[[name] for name in trials.id],
        hovertemplate="%{text}: %{marker.color:.1%}<br>" + hover + "<extra></extra>",
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
    figure.update_layout(LAYOUT, height=420, margin={"l": 48, "r": 24, "t": 40, "b": 40})
    figure.update_layout(ternary={"bgcolor": SURFACE, **axes})
    return figure
