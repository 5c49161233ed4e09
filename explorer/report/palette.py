"""Colours and layout shared by all figures: Okabe and Ito's palette, readable with any colour vision."""

STAGED = "#0072B2"
BASELINE = "#D55E00"
INK = "#1f2933"
MUTED = "#7b8794"
GRID = "#e4e7eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
RATE_SCALE = ((0.0, "#e3f0f9"), (0.5, "#6db3dd"), (1.0, "#00537f"))
"""From a rate of 0 to 1; one hue, so that darker is always more."""

LAYOUT = {
    "template": "plotly_white",
    "font": {"family": FONT, "size": 13, "color": INK},
    "margin": {"l": 64, "r": 24, "t": 24, "b": 56},
    "hoverlabel": {"font": {"family": FONT, "size": 13}},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
}
