"""Pass measured figures from a benchmark to `quick.py`, which compares them with the stored ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

VARIABLE = "BENCH_FIGURES"
"""Environment variable with the file to write figures to, one JSON line each. Nothing is written if it is not set."""


def keep(name: str, value: float, noise: float) -> None:
    """Report a figure.

    Args:
        name: description, with the unit.
        value: the measured value.
        noise: relative difference between two runs that is not significant.
    """
    if file := os.environ.get(VARIABLE):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"name": name, "value": value, "noise": noise}) + "\n")
