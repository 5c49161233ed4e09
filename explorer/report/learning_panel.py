"""Training loss over budget time: all runs of a budget, its two winners drawn bold."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from explorer.ledger import KINDS
from explorer.report.palette import AXIS, BASELINE, LAYOUT, SHARE_TICKS, STAGED

COLOURS = {"staged": STAGED, "baseline": BASELINE}
NAMES = {"staged": "staged", "baseline": "full model"}


def learning_data(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row a completed run and segment, for runs whose losses are in the ledger.

    Args:
        trials: as `trials_frame` gives.
        curves: as `best_by_budget` gives.

    Returns:
        Columns budget, id, kind, best (it is the searched run of its budget's best of its kind), time (budget time at the end
        of the segment, in (0, 1]) and loss (mean over the segment).
    """
    best = set(curves.id)
    rows = [
        (run.budget, run.id, run.kind, run.id in best, number / len(run.losses), loss)
        for run in trials[trials.status == "completed"].itertuples()
        for number, loss in enumerate(run.losses, start=1)
    ]
    return pd.DataFrame(rows, columns=pd.Index(["budget", "id", "kind", "best", "time", "loss"]))


def learning_figure(data: pd.DataFrame) -> go.Figure:
    """Draw one budget's rows."""
    figure = go.Figure()
    for best in (False, True):
        for kind in reversed(KINDS):
            x: list[float | None] = []
            y: list[float | None] = []
            text: list[str | None] = []
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
                line={"color": COLOURS[kind], "width": 2.5 if best else 1, "dash": "solid" if kind == "staged" else "dot"},
                marker={"size": 5},
                opacity=1 if best else 0.25,
                name=f"{NAMES[kind]}, the best" if best else NAMES[kind],
                showlegend=best,
                hovertemplate="%{text}: loss %{y:.3f} at %{x:.0%} of the budget<extra></extra>",
            )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="budget time: share of the budget spent", range=[0, 1.01], **SHARE_TICKS)
    figure.update_yaxes(AXIS, title_text="training loss")
    return figure
