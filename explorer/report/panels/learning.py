"""Training loss over budget time: all runs of a budget, with the best of each kind emphasized."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.trials import rows
from explorer.ledger import KINDS
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import AXIS, KIND_COLORS, KIND_DASHES, LAYOUT, SHARE_TICKS
from explorer.report.panels.panel import Panel


def learning_data(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row per completed run and segment.

    Args:
        trials: the table that `trials_frame` returns.
        curves: the table that `best_by_budget` returns.

    Returns:
        Columns budget, id, kind, best (True for the searched run of the best of its kind and budget), time (budget time at
        the end of the segment, in (0, 1]) and loss (mean over the segment).
    """
    best = set(curves.id)
    segments = [
        (run.budget, run.id, run.kind, run.id in best, time, loss)
        for run in rows(trials[trials.status == "completed"])
        for time, loss in zip(run.segment_ends, run.losses, strict=False)
    ]
    return pd.DataFrame(segments, columns=pd.Index(["budget", "id", "kind", "best", "time", "loss"]))


def learning_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the rows of one budget; runs of one kind are one trace, with gaps between them."""
    figure = go.Figure()
    for best in (False, True):
        for kind in reversed(KINDS):
            x: list[Any] = []
            y: list[Any] = []
            text: list[Any] = []
            for name, run in data[(data.best == best) & (data.kind == kind)].groupby("id", sort=False):
                x += [*run.time, None]
                y += [*run.loss, None]
                text += [str(name)] * len(run) + [None]
            if not x:
                continue
            figure.add_scatter(
                x=x,
                y=y,
                text=text,
                mode="lines+markers" if best else "lines",
                line={"color": KIND_COLORS[kind], "width": 2.5 if best else 1, "dash": KIND_DASHES[kind]},
                marker={"size": 5},
                opacity=1 if best else 0.25,
                name=f"best {kind}" if best else kind,
                showlegend=best,
                hovertemplate="%{text}: loss %{y:.3f} at %{x:.0%} of the budget<extra></extra>",
            )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="budget time: share of the budget spent", range=[0, 1.01], **SHARE_TICKS)
    figure.update_yaxes(AXIS, title_text="training loss")
    return figure


def _panel_data(sweep: LoadedSweep) -> pd.DataFrame | None:
    data = learning_data(sweep.trials, sweep.data.curves)
    return None if data.empty else data


PANEL = Panel(
    name="learning",
    section="settings",
    title="Learning curves",
    note=(
        "Mean training loss of each segment. The loss of a smaller model may jump where the model grows; compare only the ends."
    ),
    data=_panel_data,
    figure=lambda data: {str(budget): learning_figure(at_budget) for budget, at_budget in data.groupby("budget")},
    label="Training loss over budget time",
    half_width=True,
)
