"""A vision transformer registered with timm whose attention is a class of its own.

In a search space: `import: [my_models]` and `model: {name: my_vit}`.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from explorer.elastic import Layout, register_layout


class MyAttention(nn.Module):
    """Attention with separate projections."""

    def __init__(self, dim: int, num_heads: int = 4, **_: Any) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        """(B, N, D) to (B, N, D), for any number of heads."""
        q, k, v = (part(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


register_layout(
    MyAttention,
    Layout({"query": "(h d) c", "key": "(h d) c", "value": "(h d) c", "out": "c (h d)"}, heads=("num_heads",)),
)

default_cfgs = generate_default_cfgs({"my_vit.untrained": {"first_conv": "patch_embed.proj", "classifier": "head"}})


@register_model
def my_vit(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """A small one; options replace its own."""
    options = {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4, "attn_layer": MyAttention, **options}
    return build_model_with_cfg(VisionTransformer, "my_vit", pretrained, pretrained_filter_fn=checkpoint_filter_fn, **options)
