"""Rows for the ViT, DeiT, DINOv2 and Swin classes of transformers, which is imported only where a model is from it.

Importing this module adds its rows to the tables. The classes are those of transformers 5; in earlier versions they are built
of other modules, and a model is refused because nothing in it can be resized.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.models.deit import modeling_deit as deit
from transformers.models.dinov2 import modeling_dinov2 as dinov2
from transformers.models.swin import modeling_swin as swin
from transformers.models.vit import modeling_vit as vit

from explorer.elastic.depth import STACKS
from explorer.elastic.layout import Layout
from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.token_dropping import DROP_LOCATIONS, DropLocation, KeepTokens, Size

_QKV = {**dict.fromkeys(("q_proj", "k_proj", "v_proj"), "(h d) c"), "o_proj": "c (h d)"}
_ATTENTION = Layout(_QKV, heads=("num_attention_heads",))
_WINDOWS = Layout({**_QKV, "relative_position_bias.relative_position_bias_table": "p h"}, heads=("num_attention_heads",))
_MLP = Layout({"fc1": "m c", "fc2": "c m"})
_GATED = Layout({"gate_proj": "m c", "up_proj": "m c", "down_proj": "c m"})

_ROWS = (
    (vit, "ViTAttention", _ATTENTION),
    (vit, "ViTMLP", _MLP),
    (deit, "DeiTAttention", _ATTENTION),
    (deit, "DeiTMLP", _MLP),
    (dinov2, "Dinov2Attention", _ATTENTION),
    (dinov2, "Dinov2MLP", _MLP),
    (dinov2, "Dinov2SwiGLUFFN", _GATED),
    (swin, "SwinAttention", _WINDOWS),
    (swin, "SwinMLP", _MLP),
)


def _location(base: str, prefix_tokens: int) -> DropLocation:
    """After the dropout that follows the position embeddings."""

    def dropout(_: nn.Module, original: nn.Module, keep: KeepTokens) -> nn.Module:
        return nn.Sequential(original, keep(prefix_tokens))

    def grid(model: Any, image_size: Size) -> Size:
        patch = model.config.patch_size
        rows, columns = (side // patch for side in image_size)
        return rows, columns

    return DropLocation(f"{base}.embeddings.dropout", dropout, grid)


if hasattr(vit, "ViTMLP"):  # transformers 5
    for module, name, layout in _ROWS:
        LAYOUTS.setdefault(getattr(module, name), layout)
    STACKS.setdefault(vit.ViTForImageClassification, "vit.layers")
    STACKS.setdefault(deit.DeiTForImageClassification, "deit.layers")
    STACKS.setdefault(dinov2.Dinov2ForImageClassification, "dinov2.encoder.layer")
    DROP_LOCATIONS.setdefault(vit.ViTForImageClassification, _location("vit", 1))
    DROP_LOCATIONS.setdefault(deit.DeiTForImageClassification, _location("deit", 2))
    DROP_LOCATIONS.setdefault(dinov2.Dinov2ForImageClassification, _location("dinov2", 1))
