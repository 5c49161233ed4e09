"""Colors and layout shared by all figures: Okabe and Ito's palette, readable with any color vision, on light and dark.

Figures are drawn in the light colors; on a dark page each is replaced by its dark counterpart, so no two may be equal.
"""

from __future__ import annotations

from typing import Any

from explorer.ledger import Kind
from explorer.spec.metric import MetricSpec

STAGED = "#0072b2"
BASELINE = "#d55e00"
KIND_COLORS: dict[Kind, str] = {"staged": STAGED, "baseline": BASELINE}
KIND_DASHES: dict[Kind, str] = {"staged": "solid", "baseline": "dot"}
SWEEPS = (STAGED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", BASELINE)
"""One hue per sweep where several are compared."""
FAILED = "#a50f15"
INK = "#1f2933"
MUTED = "#5f6b7a"
GRID = "#e4e7eb"
SURFACE = "#ffffff"
PANEL = "#f6f8fa"
SHARE_SCALE = ((0.0, "#e3f0f9"), (0.5, "#6db3dd"), (1.0, "#00537f"))
"""Color scale of fractions from 0 to 1: one hue, darker for more, on a dark page too."""
RATE_COLORS = ((0.3, "#cfe5f4"), (0.55, "#6eb4de"), (0.99, "#2f86bd"), (1.0, "#00547e"))
"""Color of activation rates up to each bound: darker for more of the model, on a dark page too."""
ON_LIGHT = "#1f2932"
"""Text on the lighter colors of rates. It has no dark counterpart: those colors are light on both pages."""
ON_DARK = "#fdfdfe"
"""Text on the darkest color of rates."""
DARK: dict[str, str] = {
    STAGED: "#4aa8e0",
    BASELINE: "#ff8a3d",
    "#009e73": "#2fc79a",
    "#cc79a7": "#e59cc4",
    "#e69f00": "#f5b731",
    "#56b4e9": "#8fd0f7",
    FAILED: "#ff6b6b",
    INK: "#e6eaef",
    MUTED: "#9aa6b2",
    GRID: "#2c3440",
    SURFACE: "#12161c",
    PANEL: "#1a2029",
    "#e3f0f9": "#c3dcee",
    "#6db3dd": "#63aedb",
    "#00537f": "#0b6ea4",
    "#6eb4de": "#8cc8ec",
    "#2f86bd": "#4a9fd6",
    "#00547e": "#0b6ea3",
}
SCORE_SCALE = "Cividis"
"""Color scale of values of the metric, brighter for higher ones."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

LAYOUT: dict[str, Any] = {
    "template": "none",
    "font": {"family": FONT, "size": 13, "color": INK},
    "paper_bgcolor": SURFACE,
    "plot_bgcolor": SURFACE,
    "margin": {"l": 64, "r": 16, "t": 24, "b": 56},
    "hoverlabel": {"font": {"family": FONT, "size": 13, "color": INK}, "bgcolor": PANEL, "bordercolor": GRID, "align": "left"},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
    "hovermode": "closest",
}
AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": MUTED,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": GRID,
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}
SHARE_TICKS: dict[str, Any] = {"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".0%"}
"""Ticks of an axis from 0 to 1; plotly's own ticks leave out the last."""


def metric_bar(title: str, metric: MetricSpec) -> dict[str, object]:
    """The legend of a color scale of values of a metric."""
    return {"thickness": 12, "outlinewidth": 0, **metric.axis, "title": {"text": title, "font": {"size": 13}}}


def faded(color: str, opacity: float) -> str:
    """A color of the palette made transparent: hex with alpha, so that the dark color can still replace it."""
    return f"{color}{round(255 * opacity):02x}"
