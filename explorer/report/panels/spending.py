"""What the search cost: hypervolume over the training spent, and how much sharing saved."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier import hypervolume
from explorer.frontier.trials import charged, metric_of
from explorer.ledger import KINDS
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import AXIS, KIND_COLORS, KIND_DASHES, LAYOUT, MUTED, STAGED, faded
from explorer.report.panels.panel import Panel

MIN_RUNS = 8
"""Fewer runs are no curve."""
MAX_POINTS = 300
"""Points of a curve; longer sweeps are sampled evenly over their runs."""


def spending_data(trials: pd.DataFrame) -> pd.DataFrame:
    """The state of a sweep after each of its completed runs, in the order of finishing.

    Args:
        trials: of the target and of the proxies, as `trials_frame` returns them.

    Returns:
        Columns runs (finished so far; a training that two trials share counts once, and
        one of another sweep not at all), spent and planned (executed and planned
        cost so far, in full trainings), staged and baseline (hypervolume of the target's single runs of each kind on test data;
        reference point: full training, and accuracy 0 or the worst possible value of another metric, or that of the worst
        run where there is none).
    """
    runs = trials[trials.status == "completed"].sort_values("finished", kind="stable").reset_index(drop=True)
    is_charged = runs.index.isin(charged(runs).index)
    table = pd.DataFrame(
        {
            "runs": is_charged.cumsum(),
            "spent": (runs.executed_cost * is_charged).cumsum(),
            "planned": (runs.cost * is_charged).cumsum(),
        }
    )
    sampled = np.unique(np.linspace(0, len(runs) - 1, min(len(runs), MAX_POINTS)).astype(int))
    worst = metric_of(runs).score_bounds[0]
    if math.isinf(worst):
        worst = float(runs.test_score[runs.proxy.isna()].min())
    for kind in KINDS:
        of_kind = ((runs.kind == kind) & runs.proxy.isna()).to_numpy()
        finished = [runs[of_kind & (np.arange(len(runs)) <= last)] for last in sampled]
        table.loc[sampled, kind] = [hypervolume(part.cost, part.test_score, (1.0, worst)) for part in finished]
    return table.loc[sampled].reset_index(drop=True)


def hypervolume_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the hypervolume of both kinds."""
    figure = go.Figure()
    for kind in reversed(KINDS):
        figure.add_scatter(
            x=data.spent,
            y=data[kind],
            mode="lines",
            line={"color": KIND_COLORS[kind], "width": 2.5, "shape": "hv", "dash": KIND_DASHES[kind]},
            name=kind,
            hovertemplate="after %{x:.1f} full trainings: %{y:.3f}<extra>" + kind + "</extra>",
        )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="training spent, in full trainings", rangemode="tozero")
    figure.update_yaxes(AXIS, title_text="hypervolume")
    return figure


def sharing_figure(data: pd.DataFrame) -> go.Figure:
    """Draw executed against planned cost."""
    figure = go.Figure()
    for column, name, color, filled in (
        ("spent", "executed", STAGED, True),
        ("planned", "planned (without sharing)", MUTED, False),
    ):
        figure.add_scatter(
            x=data.runs,
            y=data[column],
            mode="lines",
            fill="tozeroy" if filled else "none",
            fillcolor=faded(color, 0.12),
            line={"color": color, "width": 2.5, "dash": "solid" if filled else "dot"},
            name=name,
            hovertemplate="%{y:.2f} full trainings<extra>" + name + "</extra>",
        )
    figure.update_layout(LAYOUT, height=340)
    figure.update_xaxes(AXIS, title_text="runs finished", rangemode="tozero")
    figure.update_yaxes(AXIS, title_text="full trainings", rangemode="tozero")
    return figure


def in_full_trainings(trials: pd.DataFrame, column: str) -> float:
    """The sum of a column of costs, in full trainings; a training that two trials share counts once."""
    trained = charged(trials)
    return float(trained[column].sum())


def sharing_note(data: pd.DataFrame) -> str:
    """What sharing saved, in a sentence."""
    spent, planned = float(data.spent.iloc[-1]), float(data.planned.iloc[-1])
    return (
        f"The plans of the trials cost {planned:.1f} full trainings in total; {spent:.1f} were executed, because trials with "
        f"equal beginnings share them ({1 - spent / planned:.0%} saved)."
    )


def _progress(sweep: LoadedSweep) -> pd.DataFrame | None:
    """The hypervolume has nothing to say of a few runs."""
    data = spending_data(sweep.all_trials)
    return None if len(data) < MIN_RUNS else data


def _sharing(sweep: LoadedSweep) -> pd.DataFrame | None:
    """`None` where no training was shared."""
    data = spending_data(sweep.all_trials)
    return None if data.spent.iloc[-1] >= data.planned.iloc[-1] else data


HYPERVOLUME_PANEL = Panel(
    name="hypervolume",
    section="sweep",
    title="Progress of the frontier",
    note=(
        "Hypervolume of all single runs so far: the mean, over all costs up to full training, of how much better the best run "
        "at that cost or below is than the worst possible value of the metric (than the worst run, where there is none)."
    ),
    data=_progress,
    figure=hypervolume_figure,
    label="Hypervolume against training spent",
    half_width=True,
)
SHARING_PANEL = Panel(
    name="sharing",
    section="sweep",
    title="Savings by sharing",
    note=sharing_note,
    data=_sharing,
    figure=sharing_figure,
    label="Executed against planned training cost",
    half_width=True,
)
