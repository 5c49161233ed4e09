"""Figures that a benchmark measured, handed to `quick.py`, which compares them with the kept ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

VARIABLE = "BENCH_FIGURES"
"""Environment variable: the file that figures are written to, one JSON line each; unset: nowhere."""


def keep(name: str, value: float, noise: float) -> None:
    """Hand over a figure.

    Args:
        name: what it is, with its unit.
        value: as measured.
        noise: relative difference from another run that says nothing.
    """
    if file := os.environ.get(VARIABLE):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"name": name, "value": value, "noise": noise}) + "\n")
