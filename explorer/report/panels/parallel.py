"""Every staged trial as a line through its settings, colored by its metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.settings import is_choice, settings_table
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import INK, LAYOUT, MUTED, SCORE_SCALE, metric_bar
from explorer.report.panels.panel import Panel
from explorer.spec.metric import ACCURACY, MetricSpec

LABELS = {"learning_rate": "learning rate", "batch_size": "batch size"}
TICKS_PER_DECADE = (1, 2, 5)
MIN_TRIALS = 8
"""Fewer lines show nothing that the tables do not say."""


def parallel_data(trials: pd.DataFrame) -> pd.DataFrame:
    """The columns of `settings_table` that are drawn: the budget first (if there are several), the metric last."""
    table = settings_table(trials).drop(columns=["id", "budget"])
    first = ["budget_amount"] if table.budget_amount.nunique() > 1 else []
    middle = [name for name in table.columns if name not in ("budget_amount", "validation")]
    return table[[*first, *middle, "validation"]]


def parallel_figure(data: pd.DataFrame, budgets: dict[float, str], metric: MetricSpec = ACCURACY) -> go.Figure:
    """Draw a line per trial.

    Args:
        data: the table that `parallel_data` returns.
        budgets: the text of each amount in the column budget_amount.
        metric: what was measured.
    """
    figure = go.Figure()
    figure.add_parcoords(
        dimensions=[_dimension(name, data[name], budgets, metric) for name in data.columns],
        line={
            "color": data.validation,
            "colorscale": SCORE_SCALE,
            "showscale": True,
            "colorbar": metric_bar("validation", metric),
        },
        labelfont={"size": 13, "color": INK},
        tickfont={"size": 12, "color": MUTED},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
    )
    figure.update_layout(LAYOUT, height=420, margin={"l": 64, "r": 24, "t": 56, "b": 24})
    return figure


def _dimension(name: str, values: pd.Series, budgets: dict[float, str], metric: MetricSpec) -> dict[str, object]:
    label = LABELS.get(name, name)
    if name == "budget_amount":
        return _logarithmic("budget", values, budgets)
    if name == "learning_rate":
        low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
        round_rates = [step * 10.0**power for power in range(low, high + 1) for step in TICKS_PER_DECADE]
        within = [rate for rate in round_rates if values.min() <= rate <= values.max()]
        return _logarithmic(label, values, {rate: f"{rate:.0e}".replace("e-0", "e-") for rate in within})
    if is_choice(name, values):
        choices = sorted(set(values))
        positions = [choices.index(value) for value in values]
        return {
            "label": label,
            "values": positions,
            "tickvals": list(range(len(choices))),
            "ticktext": [str(c) for c in choices],
        }
    if name == "validation":
        return {"label": label, "values": values.tolist(), "tickformat": metric.axis["tickformat"]}
    if name.startswith(("share", "full share")):
        return {"label": label, "values": values.tolist(), "tickformat": ".0%", "range": [0, 1]}
    return {"label": label, "values": values.tolist(), "tickvals": sorted(set(values))}


def _logarithmic(label: str, values: pd.Series, ticks: dict[float, str]) -> dict[str, object]:
    return {
        "label": label,
        "values": [math.log10(value) for value in values],
        "tickvals": [math.log10(value) for value in ticks],
        "ticktext": list(ticks.values()),
    }


@dataclass(frozen=True)
class ParallelData:
    """The table to draw, and the text of each budget."""

    settings: pd.DataFrame
    budgets: dict[float, str]
    metric: MetricSpec


def _panel_data(sweep: LoadedSweep) -> ParallelData | None:
    settings = parallel_data(sweep.trials)
    budgets = dict(zip(sweep.data.curves.budget_amount, sweep.data.curves.budget, strict=True))
    return None if len(settings) < MIN_TRIALS else ParallelData(settings, budgets, sweep.data.metric)


PANEL = Panel(
    name="parallel",
    section="sweep",
    title="All staged trials",
    note=(
        "A line is a trial; drag along an axis to see only the trials that pass there. Shares are of the budget; the last "
        "stage is the full model."
    ),
    data=_panel_data,
    figure=lambda data: parallel_figure(data.settings, data.budgets, data.metric),
    label="Settings of all staged trials as lines, colored by the metric on validation images",
    lazy=True,
)
