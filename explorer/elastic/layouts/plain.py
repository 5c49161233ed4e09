"""Rows for the plain vision transformer: vit, deit, deit3."""

from timm.layers import Attention, AttentionPoolLatent, Mlp
from torch import nn

from explorer.elastic.layout import Layout, Row

LAYOUTS: dict[type[nn.Module], Row] = {
    Attention: Layout(
        {"qkv": "(3 h d) c", "proj": "c (h d)", "gate": "(h d) c", "norm": "(h d)"}, heads=("num_heads", "attn_dim")
    ),
    Mlp: Layout({"fc1": "m c", "fc2": "c m", "norm": "m"}),
}

WHOLE: tuple[type[nn.Module], ...] = (AttentionPoolLatent,)
