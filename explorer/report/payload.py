"""What a page carries: plotly and the figures' data, compressed, so that the page opens offline and stays small."""

from __future__ import annotations

import base64
import gzip
import json
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

from explorer.report import palette


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain data."""
    data: dict[str, Any] = json.loads(figure.to_json())
    return data


def packed(text: str) -> str:
    """Text as base64 of gzip; browsers unpack it by their DecompressionStream. Nothing in it can end a script element."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


OF_THE_PAGE = ("INK", "MUTED", "GRID", "SURFACE", "PANEL", "STAGED", "BASELINE")
"""Colours that the style sheet uses."""


@cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs())


def render(template: str, payload: dict[str, Any], watch: Watch | None, **text: Any) -> str:
    """A page.

    Args:
        template: its file in `templates`.
        payload: what `report.js` reads.
        watch: how the page follows its sweep; None: it stays as it is.
        text: what the template writes; escaped there.
    """
    environment = Environment(loader=PackageLoader("explorer.report"), autoescape=True, trim_blocks=True)
    colours = {name.lower(): getattr(palette, name) for name in OF_THE_PAGE}
    content = {**payload, "dark": palette.DARK, "ink": palette.INK, "watch": asdict(watch) if watch else None}
    return environment.get_template(template).render(
        **text,
        **colours,
        dark=palette.DARK,
        font=palette.FONT,
        plotly=_packed_plotly(),
        payload=packed(json.dumps(content, allow_nan=False)),
    )


@dataclass(frozen=True)
class Watch:
    """Of a page that is written again while it is open: it loads itself anew when a file beside it has another stamp."""

    seconds: int
    """Between two looks."""
    stamp: str = field(default_factory=lambda: str(time.time_ns()))


def publish(path: Path, content: str, stamp: str = "") -> Path:
    """Write a page so that a browser that loads it meanwhile sees the old one or the new one, whole.

    Pages that are watched load it when the stamp changes; without one, those that are still open do so for the last time.
    """
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
    watched = path.with_name("updated.js")
    if stamp or watched.exists():
        watched.write_text(f"window.explorerUpdated = {json.dumps(stamp)};\n")
    return path
