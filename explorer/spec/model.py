"""Which model is trained."""

from __future__ import annotations

from typing import Any

from explorer.spec.base import Frozen


class ModelSpec(Frozen):
    """A timm model."""

    name: str
    """Name of the model, as in `timm.list_models()`."""
    pretrained: bool = False
    """Whether training starts from timm's pretrained weights, which are downloaded."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `timm.create_model`: depth, embed_dim, drop_path_rate, ..."""
