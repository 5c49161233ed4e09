"""Natural order of names: `2` comes before `10`, and capitals do not matter, as timm sorts."""

from __future__ import annotations

import re


def natural_key(text: str) -> list[str | int]:
    """Sort key by which numbers in a text are compared as numbers."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", text.lower()))]
