"""Where plotly accepts more than the stubs for its type checker list."""

from __future__ import annotations

from typing import Any


def accepted(value: object) -> Any:
    """A value that plotly accepts and `plotly-stubs` does not list: text on an axis, rows of `customdata`, gaps in a line."""
    return value
