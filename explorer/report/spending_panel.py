"""What finding out cost: the frontier's growth over the training spent, and what sharing saved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier import hypervolume
from explorer.ledger import KINDS
from explorer.report.palette import AXIS, BASELINE, LAYOUT, MUTED, STAGED, faded

MOST_POINTS = 300
"""Longer sweeps are looked at so often, evenly over their trials."""
COLOURS = {"staged": STAGED, "baseline": BASELINE}
NAMES = {"staged": "staged", "baseline": "full model"}


def spending_data(trials: pd.DataFrame) -> pd.DataFrame:
    """The state of a sweep after each of its completed runs, in the order of finishing.

    Returns:
        Columns runs (finished so far); spent and planned (executed and planned cost so far, in full trainings); staged and
        baseline (hypervolume of each kind's single runs on test data, reference: full training and no accuracy).
    """
    runs = trials[trials.status == "completed"].sort_values("finished", kind="stable").reset_index(drop=True)
    table = pd.DataFrame(
        {
            "runs": runs.index + 1,
            "spent": (runs.executed_flops / runs.full_flops).cumsum(),
            "planned": (runs.planned_flops / runs.full_flops).cumsum(),
        }
    )
    looked_at = np.unique(np.linspace(0, len(runs) - 1, min(len(runs), MOST_POINTS)).astype(int))
    for kind in KINDS:
        ours = (runs.kind == kind).to_numpy()
        seen = [runs[ours & (np.arange(len(runs)) <= last)] for last in looked_at]
        table.loc[looked_at, kind] = [hypervolume(part.cost, part.test_accuracy) for part in seen]
    return table.loc[looked_at].reset_index(drop=True)


def hypervolume_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the growth of both frontiers."""
    figure = go.Figure()
    for kind in reversed(KINDS):
        figure.add_scatter(
            x=data.spent,
            y=data[kind],
            mode="lines",
            line={"color": COLOURS[kind], "width": 2.5, "shape": "hv", "dash": "solid" if kind == "staged" else "dot"},
            name=NAMES[kind],
            hovertemplate="after %{x:.1f} full trainings: %{y:.3f}<extra>" + NAMES[kind] + "</extra>",
        )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="training spent, in full trainings", rangemode="tozero")
    figure.update_yaxes(AXIS, title_text="hypervolume")
    return figure


def sharing_figure(data: pd.DataFrame) -> go.Figure:
    """Draw executed against planned cost."""
    figure = go.Figure()
    for column, name, colour, fill in (
        ("spent", "executed", STAGED, "tozeroy"),
        ("planned", "planned (without sharing)", MUTED, None),
    ):
        figure.add_scatter(
            x=data.runs,
            y=data[column],
            mode="lines",
            fill=fill,
            fillcolor=faded(colour, 0.12),
            line={"color": colour, "width": 2.5, "dash": "solid" if fill else "dot"},
            name=name,
            hovertemplate="%{y:.2f} full trainings<extra>" + name + "</extra>",
        )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="runs finished", rangemode="tozero")
    figure.update_yaxes(AXIS, title_text="full trainings", rangemode="tozero")
    return figure
