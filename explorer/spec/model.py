"""Which model is trained."""

from __future__ import annotations

from typing import Any

from explorer.spec.base import Frozen


class ModelSpec(Frozen):
    """A timm model."""

    name: str
    """Name of the model, as in `timm.list_models()`, with the tag of pretrained weights if there are several
    (`vit_small_patch16_224.augreg_in1k`); or `hf-hub:owner/model` or `local-dir:/path/to/model`, as timm reads them."""
    pretrained: bool = False
    """Whether training starts from timm's pretrained weights, which are downloaded."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `timm.create_model`: depth, embed_dim, drop_path_rate, ... The number of classes, of
    channels and the image size are those of the data."""
