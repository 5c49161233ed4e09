"""Run an unmodified timm model at given activation rates by resizing it in place."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.elastic.layout import Layout
    from explorer.elastic.model import ElasticModel
    from explorer.elastic.register import register_layout, register_model, register_whole

__all__ = ["ElasticModel", "Layout", "register_layout", "register_model", "register_whole"]

# These import torch, which the table of models does without.
_LAZY = {
    "ElasticModel": "explorer.elastic.model",
    "Layout": "explorer.elastic.layout",
    "register_layout": "explorer.elastic.register",
    "register_model": "explorer.elastic.register",
    "register_whole": "explorer.elastic.register",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
