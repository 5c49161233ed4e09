"""What a page carries: plotly and the figures' data, compressed, so that the page opens offline and stays small."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
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


@cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs())


def render(template: str, payload: dict[str, Any], **text: Any) -> str:
    """A page.

    Args:
        template: its file in `templates`.
        payload: what `report.js` reads.
        text: what the template writes; escaped there.
    """
    environment = Environment(loader=PackageLoader("explorer.report"), autoescape=True, trim_blocks=True)
    colours = {name.lower(): getattr(palette, name) for name in ("INK", "MUTED", "GRID", "SURFACE", "PANEL", "STAGED", "BASELINE")}
    content = {**payload, "dark": palette.DARK, "ink": palette.INK}
    return environment.get_template(template).render(
        **text,
        **colours,
        dark=palette.DARK,
        font=palette.FONT,
        plotly=_packed_plotly(),
        payload=packed(json.dumps(content, allow_nan=False)),
    )
