"""Every staged trial as a line through its settings, coloured by what it reached."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.settings import settings_table
from explorer.report.palette import ACCURACY_SCALE, INK, LAYOUT, MUTED, accuracy_bar

NAMES = {"learning_rate": "learning rate", "batch_size": "batch", "validation_accuracy": "validation"}
DECADE_STEPS = (1, 2, 5)


def parallel_data(trials: pd.DataFrame) -> pd.DataFrame:
    """`settings_table` without what only names a trial: budget first, accuracy last."""
    table = settings_table(trials).drop(columns=["id", "budget"])
    first = ["budget_amount"] if table.budget_amount.nunique() > 1 else []
    middle = [name for name in table.columns if name not in ("budget_amount", "validation_accuracy")]
    return table[[*first, *middle, "validation_accuracy"]]


def parallel_figure(data: pd.DataFrame, budgets: dict[float, str]) -> go.Figure:
    """Draw the lines.

    Args:
        data: of `parallel_data`.
        budgets: what to write for each amount of the column budget_amount.
    """
    figure = go.Figure()
    figure.add_parcoords(
        dimensions=[_dimension(name, data[name], budgets) for name in data.columns],
        line={
            "color": data.validation_accuracy,
            "colorscale": ACCURACY_SCALE,
            "showscale": True,
            "colorbar": accuracy_bar("validation"),
        },
        labelfont={"size": 13, "color": INK},
        tickfont={"size": 12, "color": MUTED},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
    )
    figure.update_layout(LAYOUT, height=420, margin={"l": 64, "r": 24, "t": 56, "b": 24})
    return figure


def _dimension(name: str, values: pd.Series, budgets: dict[float, str]) -> dict[str, object]:
    label = NAMES.get(name, name)
    if name == "budget_amount":
        return _logarithmic("budget", values, budgets)
    if name == "learning_rate":
        low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
        round_ones = [step * 10.0**power for power in range(low, high + 1) for step in DECADE_STEPS]
        within = [rate for rate in round_ones if values.min() <= rate <= values.max()]
        return _logarithmic(label, values, {rate: f"{rate:.0e}".replace("e-0", "e-") for rate in within})
    if values.dtype == object or name == "batch_size":
        choices = sorted(set(values))
        positions = [choices.index(value) for value in values]
        return {
            "label": label,
            "values": positions,
            "tickvals": list(range(len(choices))),
            "ticktext": [str(c) for c in choices],
        }
    if name.startswith(("share", "full share", "validation")):
        whole = {} if name.startswith("validation") else {"range": [0, 1]}
        return {"label": label, "values": values.tolist(), "tickformat": ".0%", **whole}
    return {"label": label, "values": values.tolist(), "tickvals": sorted(set(values))}


def _logarithmic(label: str, values: pd.Series, ticks: dict[float, str]) -> dict[str, object]:
    return {
        "label": label,
        "values": [math.log10(value) for value in values],
        "tickvals": [math.log10(value) for value in ticks],
        "ticktext": list(ticks.values()),
    }
