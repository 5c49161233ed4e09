"""Rows for plain transformers with other positions or projections: eva, dinov3, beit, relpos, sam, naflex, gemma, qwen.

Shapes: B batch, N tokens, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import AttentionRope, RelPosBias, RelPosBiasTf, RelPosMlp, RotaryEmbeddingMixed, apply_rot_embed_cat
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import RelativePositionBias
from timm.models.eva import EvaAttention
from timm.models.gemma4_vit import Gemma4Attention
from timm.models.vision_transformer_relpos import RelPosAttention
from timm.models.vision_transformer_sam import Attention as SamAttention
from torch import Tensor, nn
from torch.nn.functional import linear

from explorer.elastic.internals import beit_position_bias
from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import attend, join, project


def _biased_qkv(module: Any, x: Tensor) -> Tensor:
    """Fused projection, (3, B, heads, N, d); eva and beit have separate q, k and v biases."""
    bias = None if module.q_bias is None else torch.cat((module.q_bias, module.k_bias, module.v_bias))
    if bias is not None and module.qkv_bias_separate:
        qkv = module.qkv(x) + bias
    else:
        qkv = linear(x, weight=module.qkv.weight, bias=bias)
    return qkv.reshape(*x.shape[:2], 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)


def _rotated(x: Tensor, rope: Tensor, module: Any) -> Tensor:
    """Rotate all tokens except the prefix tokens; (B, heads, N, d)."""
    prefix, patches = x[:, :, : module.num_prefix_tokens], x[:, :, module.num_prefix_tokens :]
    half = getattr(module, "rotate_half", False)
    return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=half)], dim=2)


class NarrowEvaAttention(EvaAttention):
    """The width of the attention output follows its heads, not the input."""

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        gate = self.gate(x).sigmoid() if self.gate is not None else None
        if self.qkv is not None:
            q, k, v = _biased_qkv(self, x).unbind(0)
        else:
            q, k, v = (
                layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
            )
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = _rotated(q, rope, self).type_as(v), _rotated(k, rope, self).type_as(v)
        x = self.norm(join(attend(self, q, k, v, mask=attn_mask, is_causal=is_causal)))
        return project(self, x if gate is None else x * gate)


class NarrowBeitAttention(BeitAttention):
    """The width of the attention output follows its heads, not the input."""

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        q, k, v = _biased_qkv(self, x).unbind(0)
        bias = shared_rel_pos_bias
        if self.relative_position_bias_table is not None:
            own = beit_position_bias(self)
            bias = own if bias is None else own + bias
        return project(self, join(attend(self, q, k, v, mask=bias)))


class NarrowRelPosAttention(RelPosAttention):
    """The width of the attention output follows its heads, not the input."""

    def forward(self, x: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.rel_pos.get_bias() if self.rel_pos is not None else shared_rel_pos
        return project(self, join(attend(self, self.q_norm(q), self.k_norm(k), v, mask=bias)))


def _grouped(module: nn.Module) -> tuple[str, tuple[str, ...]]:
    """Factors of the query heads, and the attributes that count heads, for attention whose heads may share keys and values.

    With shared keys, `h` counts key-value heads: each is cut together with all its query heads, which lie side by side.
    """
    shared = int(module.num_kv_groups)  # type: ignore[arg-type]
    return (f"h {shared} d", ("num_kv_heads", "num_heads")) if shared > 1 else ("h d", ("num_heads", "num_kv_heads"))


def _rope_attention(module: nn.Module) -> Layout:
    queries, counts = _grouped(module)
    tensors = {
        "qkv": "(3 h d) c",
        "q_proj": f"({queries}) c",
        "k_proj": "(h d) c",
        "v_proj": "(h d) c",
        "gate": f"({queries}) c",
        "norm": f"({queries})",
        "proj": f"c ({queries})",
    }
    return Layout(tensors, heads=(*counts, "attn_dim", "kv_dim"))


def _gemma_attention(module: nn.Module) -> Layout:
    queries, counts = _grouped(module)
    tensors = {
        "q_proj.linear": f"({queries}) c",
        "k_proj.linear": "(h d) c",
        "v_proj.linear": "(h d) c",
        "o_proj.linear": f"c ({queries})",
    }
    return Layout(tensors, heads=counts)


_BIASED = {"qkv": "(3 h d) c", "proj": "c (h d)", "q_bias": "(h d)", "k_bias": "(h d)", "v_bias": "(h d)"}

LAYOUTS: dict[type[nn.Module], Row] = {
    AttentionRope: _rope_attention,
    Gemma4Attention: _gemma_attention,
    EvaAttention: Layout(
        {
            **_BIASED,
            "q_proj": "(h d) c",
            "k_proj": "(h d) c",
            "v_proj": "(h d) c",
            "gate": "(h d) c",
            "norm": "(h d)",
        },
        heads=("num_heads",),
        narrow=NarrowEvaAttention,
    ),
    BeitAttention: Layout({**_BIASED, "relative_position_bias_table": "p h"}, heads=("num_heads",), narrow=NarrowBeitAttention),
    RelPosAttention: Layout({"qkv": "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads",), narrow=NarrowRelPosAttention),
    SamAttention: Layout({"qkv": "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads",)),
    # Position modules with parameters for each head; one module may serve the attention of all blocks.
    RelativePositionBias: Layout({"relative_position_bias_table": "p h"}),
    RelPosBias: Layout({"relative_position_bias_table": "p h"}, heads=("bias_shape[-1]",)),
    RelPosBiasTf: Layout({"relative_position_bias_table": "h p p"}, heads=("num_heads", "bias_shape[0]")),
    RelPosMlp: Layout({"mlp.fc2": "h c"}, heads=("num_heads", "bias_shape[-1]"), whole=frozenset({"mlp"})),
    RotaryEmbeddingMixed: Layout({"freqs": "p p h p"}, heads=("num_heads", "dim")),
}
