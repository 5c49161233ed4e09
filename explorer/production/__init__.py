"""Schedules in production training. Does not need ray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.production.hand_over import ExportedModel, check_export, export

__all__ = ["ExportedModel", "check_export", "export"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported when they are first used: the command line starts without torch
        return getattr(import_module("explorer.production.hand_over"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
