"""Softmax attention that several of timm's classes write out, for the narrow forms of them."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import maybe_add_mask, resolve_self_attn_mask
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Heads' outputs side by side, (B, N, heads * d) for q, k, v (B, heads, N, d): as wide as the heads there are.

    Scores are scaled by `module.scale`, the full model's: a head keeps its width when others are cut.
    """
    if getattr(module, "fused_attn", False):
        dropout = module.attn_drop.p if module.training else 0.0
        x = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
    else:
        scores = (q * module.scale) @ k.transpose(-2, -1)
        scores = maybe_add_mask(scores, resolve_self_attn_mask(q.shape[-2], scores, mask, is_causal))
        x = module.attn_drop(scores.softmax(dim=-1)) @ v
    return x.transpose(1, 2).flatten(2)


def project(module: Any, x: Tensor) -> Tensor:
    """Output projection and its dropout."""
    out: Tensor = module.proj_drop(module.proj(x))
    return out
