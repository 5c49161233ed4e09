"""Colours and layout shared by all figures: Okabe and Ito's palette, readable with any colour vision, on light and dark.

Figures are drawn in the light colours; on a dark page each is replaced by its dark one. So no two light colours are equal.
"""

STAGED = "#0072b2"
BASELINE = "#d55e00"
SWEEPS = (STAGED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", BASELINE)
"""One hue a sweep where several are compared."""
FAILED = "#a50f15"
INK = "#1f2933"
MUTED = "#5f6b7a"
GRID = "#e4e7eb"
SURFACE = "#ffffff"
PANEL = "#f6f8fa"
SHARE_SCALE = ((0.0, "#e3f0f9"), (0.5, "#6db3dd"), (1.0, "#00537f"))
"""From a share of 0 to 1; one hue, so that more stands out more."""
RATE_COLOURS = ((0.3, "#cfe5f4"), (0.55, "#6eb4de"), (0.99, "#2f86bd"), (1.0, "#00547e"))
"""Of activation rates up to each bound: of each step, more of the model stands out more."""
DARK = {
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
    "#e3f0f9": "#16324a",
    "#6db3dd": "#2b7bb0",
    "#00537f": "#a5d8f8",
    "#cfe5f4": "#173750",
    "#6eb4de": "#24618c",
    "#2f86bd": "#4b9fd3",
    "#00547e": "#a6d9f9",
}
ACCURACY_SCALE = "Cividis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

LAYOUT = {
    "template": "none",
    "font": {"family": FONT, "size": 13, "color": INK},
    "paper_bgcolor": SURFACE,
    "plot_bgcolor": SURFACE,
    "margin": {"l": 64, "r": 16, "t": 24, "b": 56},
    "hoverlabel": {"font": {"family": FONT, "size": 13, "color": INK}, "bgcolor": PANEL, "bordercolor": GRID, "align": "left"},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
    "hovermode": "closest",
}
AXIS = {
    "gridcolor": GRID,
    "linecolor": MUTED,
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": GRID,
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}


SHARE_TICKS = {"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".0%"}
"""Of an axis from 0 to 1; plotly's own ticks leave out the last."""


def accuracy_bar(title: str) -> dict[str, object]:
    """The legend of a colour scale of accuracies."""
    return {"thickness": 12, "outlinewidth": 0, "tickformat": ".0%", "title": {"text": title, "font": {"size": 13}}}


def faded(colour: str, opacity: float) -> str:
    """A colour of the palette with some of what lies behind it: hex with alpha, so that the dark one can replace it."""
    return f"{colour}{round(255 * opacity):02x}"
