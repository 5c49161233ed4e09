"""Rows for differential attention and for blocks that compute attention and MLP in parallel from one projection.

Shapes: B batch, N tokens, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DiffAttention
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock
from torch import Tensor, nn

from explorer.elastic.internals import differential_lambda
from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import attend, join, project


def _differential(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Difference of two attentions over the same values; q, k, v (B, N, heads * 2 d) to the same shape.

    Each head has two queries and two keys of width d, and one value of width 2 d: two ordinary attentions.
    """
    heads = module.num_heads
    q, k = module.q_norm(q.unflatten(2, (heads, 2, -1))), module.k_norm(k.unflatten(2, (heads, 2, -1)))
    v = v.unflatten(2, (heads, -1)).transpose(1, 2)
    first, second = (
        join(
            attend(
                module, q[:, :, :, half].transpose(1, 2), k[:, :, :, half].transpose(1, 2), v, mask=mask, is_causal=is_causal
            )
        )
        for half in (0, 1)
    )
    x = (first - differential_lambda(module).type_as(q) * second).unflatten(2, (heads, -1))
    return (module.sub_norm(x) * (1 - module.lambda_init)).flatten(2)


class NarrowDiffAttention(DiffAttention):
    """The width of the attention output follows its heads, not the input."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=2)
        return project(self, self.norm(_differential(self, q, k, v, attn_mask, is_causal)))


class NarrowParallelScalingBlock(ParallelScalingBlock):
    """The width of the attention output follows its heads, not the input."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        x_mlp, q, k, v = torch.split(self.in_proj(self.in_norm(x)), self.in_split, dim=-1)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)) for t in (q, k, v))
        q, k, v = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)
        return _joined(self, x, join(attend(self, q, k, v, mask=attn_mask, is_causal=is_causal)), x_mlp)


class NarrowDiffParallelScalingBlock(DiffParallelScalingBlock):
    """The width of the attention output follows its heads, not the input."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        x_mlp, q, k, v = torch.split(self.in_proj(self.in_norm(x)), self.in_split, dim=-1)
        return _joined(self, x, _differential(self, q, k, v, attn_mask, is_causal), x_mlp)


def _joined(block: Any, x: Tensor, attended: Tensor, hidden: Tensor) -> Tensor:
    """End of a parallel block: activation, output projection, fused or not, and residual."""
    hidden = block.mlp_drop(block.mlp_act(hidden if block.mlp_bias is None else hidden + block.mlp_bias))
    if block.out_proj is not None:
        y = block.out_proj(torch.cat((attended, hidden), dim=-1))
    else:
        y = block.attn_out_proj(attended) + block.mlp_out_proj(hidden)
    out: Tensor = x + block.drop_path(block.ls(y))
    return out


_HEADS = ("num_heads", "in_split[1]", "in_split[2]", "in_split[3]")
_CHANNELS = ("in_split[0]",)
_PARALLEL = {"in_proj": "(m + 3 h d) c", "mlp_bias": "m", "out_proj": "c (h d + m)"}

LAYOUTS: dict[type[nn.Module], Row] = {
    DiffAttention: Layout(
        {"qkv": "(3 h d) c", "proj": "c (h d)", "norm": "(h d)"}, heads=("num_heads",), narrow=NarrowDiffAttention
    ),
    ParallelScalingBlock: Layout(
        {**_PARALLEL, "attn_out_proj": "c (h d)", "mlp_out_proj": "c m"},
        heads=_HEADS,
        channels=_CHANNELS,
        narrow=NarrowParallelScalingBlock,
    ),
    DiffParallelScalingBlock: Layout(_PARALLEL, heads=_HEADS, channels=_CHANNELS, narrow=NarrowDiffParallelScalingBlock),
}
