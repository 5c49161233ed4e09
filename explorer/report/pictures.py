"""Static pictures for papers and slides: the frontier and the winning schedules, by plotly's kaleido."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go

from explorer.errors import InvalidInput
from explorer.report.frontier_panel import TraceStyle, frontier_figure
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.timeline_panel import timeline_data, timeline_figure
from explorer.report.units import units

Format = Literal["png", "svg", "pdf"]
WIDTH = 900
SCALE = 3
"""Pixels of a png for each unit of WIDTH: 300 dots per inch at 9 inches."""


def write_pictures(sweep: LoadedSweep, out: str | Path, formats: Sequence[Format]) -> list[Path]:
    """Write `frontier` and `timeline` in each format; svg and pdf are vector graphics.

    Raises:
        InvalidInput: when the extra `pictures` or a Chrome or Chromium is missing, or `out` cannot be written.
    """
    figures = {
        "frontier": frontier_figure([(sweep.data, TraceStyle())], units(sweep.data.curves)),
        "timeline": timeline_figure(timeline_data(sweep.data.winners)),
    }
    written = []
    for name, figure in figures.items():
        for kind in formats:
            path = Path(out) / f"{name}.{kind}"
            _write(figure, path, kind)
            written.append(path)
    return written


def _write(figure: go.Figure, path: Path, kind: Format) -> None:
    try:
        figure.write_image(path, format=kind, width=WIDTH, height=figure.layout.height, scale=SCALE if kind == "png" else 1)
    except OSError as error:
        raise InvalidInput("out", str(path.parent), f"cannot be written: {error}") from None
    except (ImportError, ValueError, RuntimeError) as error:
        needed = "needs the extra pictures (pip install 'vit-budget-explorer[pictures]') and Chrome or Chromium"
        raise InvalidInput(f"--{kind}", "cannot draw", f"{needed}: {str(error).strip().splitlines()[0]}") from None
