"""Rows for attention in windows, blocks and mask units: swin, davit, gcvit, nest, maxvit, hiera, sam2, mvitv2.

Shapes: B batch, N tokens, d width of a head.
"""

import math
from typing import Any

import torch
from timm.models import davit, gcvit, hiera, hieradet_sam2, maxxvit, mvitv2, nest, swin_transformer
from timm.models import swin_transformer_v2 as swin_v2
from timm.models import swin_transformer_v2_cr as swin_v2_cr
from torch import Tensor, nn
from torch.nn.functional import normalize

from explorer.elastic.internals import swin_v2_cr_position_bias
from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import attend, join, split


def _masked(attention: Tensor, mask: Tensor | None) -> Tensor:
    """Add the (windows, N, N) mask of shifted windows to (images windows, heads, N, N)."""
    if mask is None:
        return attention
    return (attention.unflatten(0, (-1, mask.shape[0])) + mask[:, None]).flatten(0, 1)


class NarrowSwinV2(swin_v2.WindowAttention):
    """Swin v2 windows whose heads together may be narrower than the input."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        qkv = self.qkv(x)
        if self.q_bias is not None:
            qkv = qkv + torch.cat((self.q_bias, self.k_bias, self.v_bias))
        q, k, v = split(qkv, 3, self.num_heads)
        attention = normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1)
        attention = attention * self.logit_scale.clamp(max=math.log(1.0 / 0.01)).exp()
        area = self.window_size[0] * self.window_size[1]
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
        bias = table[self.relative_position_index.view(-1)].view(area, area, -1).permute(2, 0, 1)
        attention = _masked(attention + 16 * torch.sigmoid(bias), mask).softmax(dim=-1)
        return self.proj_drop(self.proj(join(self.attn_drop(attention) @ v)))


class NarrowSwinV2Cr(swin_v2_cr.WindowMultiHeadAttention):
    """Swin v2 windows (cr) whose heads together may be narrower than the input."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = split(self.qkv(x), 3, self.num_heads)
        attention = normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1)
        attention = attention * self.logit_scale.reshape(-1, 1, 1).clamp(max=math.log(1.0 / 0.01)).exp()
        attention = _masked(attention + swin_v2_cr_position_bias(self), mask).softmax(dim=-1)
        return self.proj_drop(self.proj(join(self.attn_drop(attention) @ v)))


class NarrowDaVitWindow(davit.WindowAttention):
    """DaViT windows whose heads together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(join(attend(self, *split(self.qkv(x), 3, self.num_heads))))


class NarrowDaVitChannel(davit.ChannelAttention):
    """DaViT attention between channels whose groups together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split(self.qkv(x), 3, self.num_heads)
        attention = ((k * self.scale).transpose(-1, -2) @ v).softmax(dim=-1)
        return self.proj(join((attention @ q.transpose(-1, -2)).transpose(-1, -2)))


class NarrowDaVitChannelV2(davit.ChannelAttentionV2):
    """DaViT attention between channels (v2) whose groups together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split(self.qkv(x), 3, self.groups)
        q = q * (x.shape[1] if self.dynamic_scale else self.head_dim) ** -0.5
        attention = (q.transpose(-1, -2) @ k).softmax(dim=-1)
        return self.proj(join((attention @ v.transpose(-1, -2)).transpose(-1, -2)))


class NarrowGlobalContext(gcvit.WindowAttentionGlobal):
    """GC ViT windows whose heads together may be narrower than the input; of a global query only the leading heads are used."""

    def forward(self, x: Tensor, q_global: Tensor | None = None) -> Tensor:
        if self.use_global and q_global is not None:
            k, v = split(self.qkv(x), 2, self.num_heads)
            # Windows are ordered by image. The shared query has all heads: another module computes it once per stage.
            queries = q_global.repeat_interleave(x.shape[0] // q_global.shape[0], dim=0)
            queries = queries.reshape(x.shape[0], x.shape[1], -1, self.head_dim)
            q = queries[:, :, : self.num_heads].transpose(1, 2)
        else:
            q, k, v = split(self.qkv(x), 3, self.num_heads)
        attention = self.rel_pos((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj_drop(self.proj(join(self.attn_drop(attention) @ v)))


class NarrowNest(nest.Attention):
    """NesT blocks whose heads together may be narrower than the input; heads lie innermost in front of `proj`."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 4, 1, 2, 5).unbind(0)
        return self.proj_drop(self.proj(attend(self, q, k, v).permute(0, 2, 3, 4, 1).flatten(3)))


def _global_context(module: Any) -> Layout:
    """A block with a global query projects only keys and values."""
    return Layout(
        {"qkv": "(2 h d) c" if module.use_global else "(3 h d) c", "proj": "c (h d)"},
        heads=("num_heads",),
        narrow=NarrowGlobalContext,
    )


def _maxxvit(module: Any) -> Layout:
    """With `head_first`, the query, key and value of a head are adjacent."""
    return Layout({"qkv": "(h d) c" if module.head_first else "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads",))


QKV = {"qkv": "(3 h d) c", "proj": "c (h d)"}

LAYOUTS: dict[type[nn.Module], Row] = {
    swin_transformer.WindowAttention: Layout({**QKV, "relative_position_bias_table": "p h"}, heads=("num_heads",)),
    swin_v2.WindowAttention: Layout(
        {
            **QKV,
            **dict.fromkeys(("q_bias", "k_bias", "v_bias"), "(h d)"),
            "logit_scale": "h 1 1",
            "cpb_mlp.2": "h c",
        },
        heads=("num_heads",),
        narrow=NarrowSwinV2,
    ),
    swin_v2_cr.WindowMultiHeadAttention: Layout(
        {**QKV, "logit_scale": "h", "meta_mlp.fc2": "h c"},
        heads=("num_heads",),
        narrow=NarrowSwinV2Cr,
        whole=frozenset({"meta_mlp"}),
    ),
    davit.WindowAttention: Layout(QKV, heads=("num_heads",), narrow=NarrowDaVitWindow),
    davit.ChannelAttention: Layout(QKV, heads=("num_heads",), narrow=NarrowDaVitChannel),
    davit.ChannelAttentionV2: Layout(QKV, heads=("groups",), narrow=NarrowDaVitChannelV2),
    gcvit.WindowAttentionGlobal: _global_context,
    nest.Attention: Layout({"qkv": "(3 h d) c", "proj": "c (d h)"}, heads=("num_heads",), narrow=NarrowNest),
    maxxvit.Attention2d: _maxxvit,
    maxxvit.AttentionCl: _maxxvit,
    hiera.MaskUnitAttention: Layout(QKV, heads=("heads", "dim_out")),
    hieradet_sam2.MultiScaleAttention: Layout(QKV, heads=("num_heads",)),
    # All heads share the weights that pool and normalise queries, keys and values: those keep their size.
    mvitv2.MultiScaleAttention: Layout(QKV, heads=("num_heads", "dim_out")),
}
