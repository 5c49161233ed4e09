"""What the narrow forward passes share: heads taken from a projection, attended, and joined to whatever width they make."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split(x: Tensor, groups: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, groups heads d) as `groups` tensors (B, heads, N, d)."""
    return x.unflatten(-1, (groups, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def attend(module: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention as timm's modules compute it: fused where they would be, with their scale and dropout."""
    drop = getattr(module, "attn_drop", nn.Identity())
    if module.fused_attn:
        dropout = getattr(drop, "p", 0.0) if module.training else 0.0
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=module.scale)
    attention: Tensor = drop((q * module.scale @ k.transpose(-2, -1)).softmax(dim=-1))
    return attention @ v


def join(x: Tensor) -> Tensor:
    """(B, heads, N, d) as (B, N, heads d)."""
    return x.transpose(1, 2).flatten(2)
