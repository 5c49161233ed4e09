"""Static pictures for papers and slides: the frontier and the schedules to use, drawn by plotly's kaleido."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go

from explorer.errors import InvalidInput
from explorer.files import refused_if_unwritable, write_file
from explorer.paths import expanded
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.frontier import TraceStyle, frontier_figure
from explorer.report.panels.timeline import timeline_data, timeline_figure

Format = Literal["png", "svg", "pdf"]
WIDTH = 900
PNG_SCALE = 3
"""Pixels of a PNG per unit of WIDTH: 300 dots per inch at a width of 9 inches."""


def write_pictures(sweep: LoadedSweep, out: str | Path, formats: Sequence[Format]) -> list[Path]:
    """Write `frontier` and `timeline` in each format; SVG and PDF are vector graphics.

    Raises:
        InvalidInput: when the extra `pictures` or Chrome or Chromium is missing, or `out` cannot be written.
    """
    figures = {
        "frontier": frontier_figure([(sweep.data, TraceStyle())], sweep.units),
        "timeline": timeline_figure(timeline_data(sweep.data.winners)),
    }
    paths = []
    for name, figure in figures.items():
        for picture_format in formats:
            picture = _drawn(figure, picture_format)
            with refused_if_unwritable("out", out):
                paths.append(write_file(Path(expanded(out, "out")) / f"{name}.{picture_format}", picture))
    return paths


def _drawn(figure: go.Figure, picture_format: Format) -> bytes:
    scale, height = PNG_SCALE if picture_format == "png" else 1, int(figure.layout.height or 0)
    try:
        picture: bytes = figure.to_image(format=picture_format, width=WIDTH, height=height, scale=scale)
    except (ImportError, ValueError, RuntimeError) as error:
        needed = "needs the extra pictures (pip install 'vit-budget-explorer[pictures]') and Chrome or Chromium"
        reason = str(error).strip().splitlines()[0]
        raise InvalidInput(f"--{picture_format}", "cannot draw", f"{needed}: {reason}") from None
    return picture
