"""Experiment loggers besides event files: their names, and whether their packages are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal, get_args

from explorer.errors import InvalidInput

LoggerName = Literal["mlflow", "wandb"]


def checked_loggers(names: Sequence[str], field: str) -> tuple[LoggerName, ...]:
    """The loggers of these names.

    Raises:
        InvalidInput: when there is no such logger, or its package is missing.
    """
    for name in names:
        if name not in get_args(LoggerName):
            raise InvalidInput(field, name, f"must be one of {', '.join(get_args(LoggerName))}")
        if importlib.util.find_spec(name) is None:
            raise InvalidInput(field, name, f"its package is missing: pip install 'vit-budget-explorer[{name}]'")
    return tuple(names)  # type: ignore[arg-type]
