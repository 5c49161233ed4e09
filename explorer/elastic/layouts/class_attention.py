"""Rows for cait, xcit, convit, crossvit, tnt and volo: talking heads, class, cross-covariance and gated attention.

Shapes: B batch, N tokens, H height, W width, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from timm.models import cait, convit, crossvit, tnt, volo, xcit
from torch import Tensor, nn
from torch.nn.functional import fold, normalize, scaled_dot_product_attention

from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import attend, join, project


def _heads(module: Any, *projected: Tensor) -> Iterator[Tensor]:
    """(B, N, heads * d) to (B, heads, N, d), for any number of heads."""
    return (x.unflatten(2, (module.num_heads, -1)).transpose(1, 2) for x in projected)


class NarrowClassAttn(cait.ClassAttn):
    """The width of a head follows the projections, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self, self.q(x[:, :1]), self.k(x), self.v(x))
        return project(self, join(attend(self, q, k, v)))


class NarrowTalkingHeadAttn(cait.TalkingHeadAttn):
    """The width of a head follows the projections, not the input; only active heads are mixed."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self, *self.qkv(x).chunk(3, dim=2))
        attn = (q * self.scale) @ k.transpose(-2, -1)
        attn = self.proj_l(attn.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(dim=-1)
        attn = self.attn_drop(self.proj_w(attn.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return project(self, (attn @ v).transpose(1, 2).flatten(2))


class NarrowXCA(xcit.XCA):
    """The width of a head follows the projection, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 4, 1).unbind(0)
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        if self.fused_attn:
            x = scaled_dot_product_attention(q * self.temperature, k, v, scale=1.0)
        else:
            attn = (q @ k.transpose(-2, -1)) * self.temperature
            x = self.attn_drop(attn.softmax(dim=-1)) @ v
        return project(self, x.permute(0, 3, 1, 2).flatten(2))


class NarrowGPSA(convit.GPSA):
    """The width of a head follows the projections, not the input."""

    rel_indices: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.rel_indices.shape[1] != x.shape[1]:
            self.rel_indices = self.get_rel_indices(x.shape[1])
        (v,) = _heads(self, self.v(x))
        return project(self, (self.get_attention(x) @ v).transpose(1, 2).flatten(2))

    def get_attention(self, x: Tensor) -> Tensor:
        q, k = _heads(self, *self.qk(x).chunk(2, dim=2))
        patch_score = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        pos_score = self.pos_proj(self.rel_indices.expand(len(x), -1, -1, -1)).permute(0, 3, 1, 2).softmax(dim=-1)
        gating = torch.sigmoid(self.gating_param.view(1, -1, 1, 1))
        attn = (1.0 - gating) * patch_score + gating * pos_score
        dropped: Tensor = self.attn_drop(attn / attn.sum(dim=-1, keepdim=True))
        return dropped


class NarrowMHSA(convit.MHSA):
    """The width of a head follows the projection, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self, *self.qkv(x).chunk(3, dim=2))
        return project(self, join(attend(self, q, k, v)))


class NarrowCrossAttention(crossvit.CrossAttention):
    """The width of a head follows the projections, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self, self.wq(x[:, :1]), self.wk(x), self.wv(x))
        return project(self, join(attend(self, q, k, v)))


class NarrowVoloAttention(volo.Attention):
    """The width of a head follows the projection, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self, *self.qkv(x.flatten(1, 2)).chunk(3, dim=2))
        return project(self, join(attend(self, q, k, v)).unflatten(1, x.shape[1:3]))


class NarrowOutlookAttention(volo.OutlookAttention):
    """The width of a head follows the projections, not the input."""

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, _ = x.shape
        area, patches = self.kernel_size**2, math.ceil(H / self.stride) * math.ceil(W / self.stride)
        v = self.unfold(self.v(x).permute(0, 3, 1, 2))
        v = v.reshape(B, self.num_heads, -1, area, patches).permute(0, 1, 4, 3, 2)
        attn = self.attn(self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        attn = attn.reshape(B, patches, self.num_heads, area, area).permute(0, 2, 1, 3, 4) * self.scale
        attn = self.attn_drop(attn.softmax(dim=-1))
        x = (attn @ v).permute(0, 1, 4, 3, 2).reshape(B, -1, patches)
        x = fold(x, output_size=(H, W), kernel_size=self.kernel_size, padding=self.padding, stride=self.stride)
        return project(self, x.permute(0, 2, 3, 1))


_HEADS = ("num_heads",)
_QKV = {"qkv": "(3 h d) c", "proj": "c (h d)"}
_QK_V = {"qk": "(2 h d) c", "v": "(h d) c", "proj": "c (h d)"}

LAYOUTS: dict[type[nn.Module], Row] = {
    cait.ClassAttn: Layout(
        {"q": "(h d) c", "k": "(h d) c", "v": "(h d) c", "proj": "c (h d)"}, heads=_HEADS, narrow=NarrowClassAttn
    ),
    cait.TalkingHeadAttn: Layout({**_QKV, "proj_l": "h h", "proj_w": "h h"}, heads=_HEADS, narrow=NarrowTalkingHeadAttn),
    xcit.XCA: Layout({**_QKV, "temperature": "h 1 1"}, heads=_HEADS, narrow=NarrowXCA),
    convit.GPSA: Layout({**_QK_V, "pos_proj": "h c", "gating_param": "h"}, heads=_HEADS, narrow=NarrowGPSA),
    convit.MHSA: Layout(_QKV, heads=_HEADS, narrow=NarrowMHSA),
    crossvit.CrossAttention: Layout(
        {"wq": "(h d) c", "wk": "(h d) c", "wv": "(h d) c", "proj": "c (h d)"}, heads=_HEADS, narrow=NarrowCrossAttention
    ),
    tnt.Attention: Layout(_QK_V, heads=("num_heads", "hidden_dim")),
    volo.Attention: Layout(_QKV, heads=_HEADS, narrow=NarrowVoloAttention),
    volo.OutlookAttention: Layout(
        # `attn` predicts a table of kernel_size ** 4 values for every head, so its `d` differs from that of `v`.
        {"v": "(h d) c", "attn": "(h d) c", "proj": "c (h d)"},
        heads=_HEADS,
        narrow=NarrowOutlookAttention,
    ),
    volo.ClassAttention: Layout({"q": "(h d) c", "kv": "(2 h d) c", "proj": "c (h d)"}, heads=_HEADS),
}
