"""Steps that the narrow forward passes share: split a projection into heads, attend, and join any number of heads.

Shapes: B batch, N tokens, d width of a head.
"""

from __future__ import annotations

from typing import Any

from timm.layers.attention import maybe_add_mask, resolve_self_attn_mask
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split(x: Tensor, groups: int, heads: int) -> tuple[Tensor, ...]:
    """Split (B, N, groups * heads * d) into `groups` tensors (B, heads, N, d)."""
    return x.unflatten(-1, (groups, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Softmax attention as timm's modules compute it, with their scale and dropout; fused if they use the fused kernel.

    The scale is that of the full model, because a head keeps its width when others are cut.
    """
    drop = getattr(module, "attn_drop", nn.Identity())
    if getattr(module, "fused_attn", False):
        dropout = getattr(drop, "p", 0.0) if module.training else 0.0
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, scale=module.scale)
    scores = q * module.scale @ k.transpose(-2, -1)
    if mask is not None or is_causal:
        scores = maybe_add_mask(scores, resolve_self_attn_mask(q.shape[-2], scores, mask, is_causal))
    attention: Tensor = drop(scores.softmax(dim=-1))
    return attention @ v


def join(x: Tensor) -> Tensor:
    """Join (B, heads, N, d) to (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def project(module: Any, x: Tensor) -> Tensor:
    """Output projection and dropout; (B, N, C)."""
    out: Tensor = module.proj_drop(module.proj(x))
    return out
