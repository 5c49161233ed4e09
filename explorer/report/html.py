"""From templates to a file that opens offline: plotly and the payload are in it, compressed."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs

from explorer.files import write_file
from explorer.report import palette
from explorer.report.payload import PagePayload

STYLE_SHEET_COLORS = ("INK", "MUTED", "GRID", "SURFACE", "PANEL", "STAGED", "BASELINE")
"""Colors of the palette that the style sheet uses."""


def packed(text: str) -> str:
    """Text as base64 of gzip, which browsers unpack by DecompressionStream. No text in it can end a script element."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs())


def render(template: str, payload: PagePayload, **text: Any) -> str:
    """A page.

    Args:
        template: name of its file in `templates`.
        payload: what `report.js` reads.
        text: variables of the template, escaped there.
    """
    environment = Environment(loader=PackageLoader("explorer.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    colors = {name.lower(): getattr(palette, name) for name in STYLE_SHEET_COLORS}
    return environment.get_template(template).render(
        **text,
        **colors,
        dark=palette.DARK,
        font=palette.FONT,
        plotly=_packed_plotly(),
        payload=packed(payload.to_json()),
    )


def publish(path: Path, content: str, stamp: str = "") -> Path:
    """Write a page; a browser that loads it meanwhile sees the old one or the new one, whole.

    Args:
        path: the file of the page.
        content: the page.
        stamp: the page's own stamp if it is watched. Open pages that watch reload when the stamp changes. Without one, those
            that are still open reload for the last time.
    """
    write_file(path, content)
    stamp_file = path.with_name("updated.js")
    if stamp or stamp_file.exists():
        write_file(stamp_file, f"window.explorerUpdated = {json.dumps(stamp)};\n")
    return path
