"""Rows for torchvision's `VisionTransformer` and `SwinTransformer` (v1 and v2).

Shapes: B batch, N tokens, H height, W width, C channels, w side of a window, d width of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, normalize, pad, scaled_dot_product_attention
from torchvision.models import swin_transformer, vision_transformer
from torchvision.ops import MLP

from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import join, split


class NarrowEncoderBlock(vision_transformer.EncoderBlock):
    """A block of a vision transformer whose heads together may be narrower than the input."""

    def forward(self, input: Tensor) -> Tensor:
        attention: Any = self.self_attention
        x_BNC = self.ln_1(input)
        q, k, v = split(linear(x_BNC, attention.in_proj_weight, attention.in_proj_bias), 3, self.num_heads)
        p = attention.dropout if self.training else 0.0
        x_BNC = attention.out_proj(join(scaled_dot_product_attention(q, k, v, dropout_p=p)))
        x_BNC = self.dropout(x_BNC) + input
        out: Tensor = x_BNC + self.mlp(self.ln_2(x_BNC))
        return out


class NarrowShiftedWindows(swin_transformer.ShiftedWindowAttention):
    """Windows whose heads together may be narrower than the input, as `shifted_window_attention` computes them."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        rows, columns = self.window_size
        x_BHWC = pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        _, full_height, full_width, _ = x_BHWC.shape
        shift = [
            0 if window >= side else by
            for window, side, by in zip(self.window_size, (full_height, full_width), self.shift_size, strict=True)
        ]
        x_BHWC = x_BHWC.roll((-shift[0], -shift[1]), (1, 2))
        windows = x_BHWC.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)  # B, H/w, W/w, w, w, C
        q, k, v = split(
            linear(windows.reshape(-1, rows * columns, x.shape[3]), self.qkv.weight, self._bias()), 3, self.num_heads
        )
        scores = self._scores(q, k) + self.get_relative_position_bias()
        if any(shift):
            mask = _shift_mask(scores, full_height, full_width, self.window_size, shift)
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        attention = dropout(scores.softmax(dim=-1), self.attention_dropout, self.training)
        out = dropout(self.proj(join(attention @ v)), self.dropout, self.training)
        out = out.view(*windows.shape[:5], -1).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return out.roll((shift[0], shift[1]), (1, 2))[:, :height, :width].contiguous()

    def _bias(self) -> Tensor | None:
        return self.qkv.bias

    def _scores(self, q: Tensor, k: Tensor) -> Tensor:
        return q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)


class NarrowShiftedWindowsV2(NarrowShiftedWindows, swin_transformer.ShiftedWindowAttentionV2):
    """The same of version 2: cosine attention, keys without a bias, and position biases from an MLP."""

    def _bias(self) -> Tensor | None:
        if self.qkv.bias is None:
            return None
        q, k, v = self.qkv.bias.chunk(3)
        return torch.cat((q, torch.zeros_like(k), v))

    def _scores(self, q: Tensor, k: Tensor) -> Tensor:
        scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
        return normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1) * scale


def _shift_mask(x: Tensor, height: int, width: int, window: list[int], shift: list[int]) -> Tensor:
    """What is added to scores between positions that are neighbours only because of the shift: -100, (windows, w w, w w)."""
    regions = x.new_zeros((height, width))
    count = 0
    for rows in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for columns in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            regions[rows, columns] = count
            count += 1
    regions = regions.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0])).transpose(1, 2).flatten(2).flatten(0, 1)
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, -100.0).to(x)


_MLP = Layout({"0": "m c", "3": "c m"})
_SHIFTED = {"qkv": "(3 h d) c", "proj": "c (h d)", "relative_position_bias_table": "p h"}

LAYOUTS: dict[type[nn.Module], Row] = {
    # The row is the block's: torch's attention is used by other models, too, and its forward pass assumes the full width.
    vision_transformer.EncoderBlock: Layout(
        {
            "self_attention.in_proj_weight": "(3 h d) c",
            "self_attention.in_proj_bias": "(3 h d)",
            "self_attention.out_proj": "c (h d)",
        },
        heads=("num_heads",),
        narrow=NarrowEncoderBlock,
    ),
    vision_transformer.MLPBlock: _MLP,
    MLP: _MLP,
    swin_transformer.ShiftedWindowAttention: Layout(_SHIFTED, heads=("num_heads",), narrow=NarrowShiftedWindows),
    swin_transformer.ShiftedWindowAttentionV2: Layout(
        {**_SHIFTED, "logit_scale": "h 1 1", "cpb_mlp.2": "h c"}, heads=("num_heads",), narrow=NarrowShiftedWindowsV2
    ),
}
