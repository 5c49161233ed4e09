"""Draw the accuracy of the methods against both currencies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.report.palette import AXIS, BASELINE, LAYOUT, SURFACE

COLOURS = {
    "full": BASELINE,
    "reference": "#8a94a3",
    "width": "#56b4e9",
    "tokens": "#cc79a7",
    "resize": "#e69f00",
    "depth": "#009e73",
    "all": "#5f6b7a",
    "sweep": "#0072b2",
    "copies": "#a6761d",
    "seconds": "#56b4e9",
    "paper": "#7a5195",
    "efficienttrain": "#5f6b7a",
    "progressive": "#e69f00",
}
"""By the name of the method; those of one picture differ."""
DASHES = {"full": "dash", "reference": "dot"}
"""By the name of the method."""
TITLES = {"cost": "share of full training, counted FLOPs", "seconds": "share of full training, seconds"}
"""Of the axes, by the column of the cost."""


def draw(table: pd.DataFrame, names: Mapping[str, str], path: Path) -> None:
    """Draw the table of `points` as a PNG file: means over seeds with 95 % intervals, one panel per currency of the table."""
    currencies = [currency for currency in TITLES if currency in table]
    seeds = " to ".join(str(count) for count in sorted({table.seeds.min(), table.seeds.max()}))
    figure = make_subplots(1, len(currencies), shared_yaxes=True, horizontal_spacing=0.04)
    for column, currency in enumerate(currencies, start=1):
        for method in dict.fromkeys(table.method):
            rows = table[table.method == method].sort_values(currency)
            bars = {"array": rows.test_high - rows.test_mean, "arrayminus": rows.test_mean - rows.test_low}
            figure.add_trace(
                go.Scatter(
                    x=rows[currency],
                    y=rows.test_mean,
                    error_y={**bars, "thickness": 1, "width": 3},
                    name=names[method],
                    showlegend=column == 1,
                    mode="lines+markers",
                    line={"color": COLOURS[method], "width": 2.5, "dash": DASHES.get(method, "solid")},
                ),
                1,
                column,
            )
        ticks = [0.03125, 0.0625, 0.125, 0.25, 0.5, 1, 2]
        text = [f"{100 * tick:.3g}%" for tick in ticks]
        where = np.log10([min(0.05, table[currency].min() / 1.2), max(1.2, 1.1 * table[currency].max())])
        figure.update_xaxes(
            {**AXIS, "type": "log", "tickvals": ticks, "ticktext": text, "range": where, "title": {"text": TITLES[currency]}},
            col=column,
        )
    figure.update_yaxes(**{**AXIS, "tickformat": ".0%"})
    figure.update_yaxes(title={"text": f"test accuracy, mean of {seeds} seeds"}, col=1)
    figure.update_layout({**LAYOUT, "margin": {"l": 64, "r": 16, "t": 70, "b": 56}, "paper_bgcolor": SURFACE})
    figure.write_image(path, width=1100, height=480, scale=2)
