"""Rows for pyramids of convolutions and attention: pvt, twins, nextvit, fastvit, caformer, edgenext, visformer, swiftformer.

Shapes: B batch, N tokens, d width of a head.
"""

from typing import Any

from timm.models import edgenext, fastvit, metaformer, nextvit, pvt_v2, swiftformer, twins, visformer
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from explorer.elastic.layout import Layout, Row
from explorer.elastic.layouts.attend import attend, join, split


class NarrowPvtV2(pvt_v2.Attention):
    """PVT v2 attention whose heads together may be narrower than the input."""

    def forward(self, x: Tensor, feat_size: list[int]) -> Tensor:
        (q,) = split(self.q(x), 1, self.num_heads)
        if self.sr is not None:
            x = x.transpose(1, 2).unflatten(2, feat_size)
            x = self.sr(x if self.pool is None else self.pool(x))
            x = self.norm(x.flatten(2).transpose(1, 2))
            x = x if self.act is None else self.act(x)
        k, v = split(self.kv(x), 2, self.num_heads)
        return self.proj_drop(self.proj(join(attend(self, q, k, v))))


class NarrowTwinsLocal(twins.LocallyGroupedAttn):
    """Twins attention within windows whose heads together may be narrower than the input."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = size
        x = x.unflatten(1, size)
        x = pad(x, (0, 0, 0, -width % self.ws, 0, -height % self.ws))
        rows, columns = x.shape[1] // self.ws, x.shape[2] // self.ws
        x = x.unflatten(2, (columns, self.ws)).unflatten(1, (rows, self.ws)).transpose(2, 3)
        x = join(attend(self, *split(self.qkv(x.flatten(3, 4).flatten(0, 2)), 3, self.num_heads)))
        x = x.unflatten(1, (self.ws, self.ws)).unflatten(0, (-1, rows, columns)).transpose(2, 3)
        x = x.flatten(3, 4).flatten(1, 2)[:, :height, :width].flatten(1, 2)
        return self.proj_drop(self.proj(x))


class NarrowTwinsGlobal(twins.GlobalSubSampleAttn):
    """Twins attention to a subsampled map whose heads together may be narrower than the input."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        (q,) = split(self.q(x), 1, self.num_heads)
        if self.sr is not None:
            x = self.norm(self.sr(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2))
        k, v = split(self.kv(x), 2, self.num_heads)
        return self.proj_drop(self.proj(join(attend(self, q, k, v))))


class NarrowNextVit(nextvit.EfficientAttention):
    """Next-ViT attention whose heads together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        (q,) = split(self.q(x), 1, self.num_heads)
        if self.sr is not None:
            x = self.norm(self.sr(x.transpose(1, 2))).transpose(1, 2)
        (k,), (v,) = split(self.k(x), 1, self.num_heads), split(self.v(x), 1, self.num_heads)
        return self.proj_drop(self.proj(join(attend(self, q, k, v))))


class NarrowFastVit(fastvit.Attention):
    """FastViT attention whose heads together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = join(attend(self, *split(self.qkv(x.flatten(2).transpose(1, 2)), 3, self.num_heads)))
        return self.proj_drop(self.proj(x)).transpose(1, 2).unflatten(2, size)


class NarrowMetaFormer(metaformer.Attention):
    """MetaFormer attention whose heads together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_drop(self.proj(join(attend(self, *split(self.qkv(x), 3, self.num_heads)))))


class NarrowEdgeNext(edgenext.CrossCovarianceAttn):
    """EdgeNeXt attention between channels whose heads together may be narrower than the input."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.transpose(-2, -1) for part in split(self.qkv(x), 3, self.num_heads))
        attention = normalize(q, dim=-1) @ normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        x = self.attn_drop(attention.softmax(dim=-1)) @ v
        return self.proj_drop(self.proj(x.permute(0, 3, 1, 2).flatten(2)))


def _visformer_mlp(module: Any) -> Layout:
    """Every group of the middle convolution keeps equally many channels, as a grouped convolution requires."""
    if module.conv2 is None:
        return Layout({"conv1": "m c", "conv3": "c m"}, channels=("hidden_features",))
    grouped = f"({module.conv2.groups} m)"
    return Layout({"conv1": f"{grouped} c", "conv2": f"{grouped} m", "conv3": f"c {grouped}"}, channels=("hidden_features",))


QKV = {"qkv": "(3 h d) c", "proj": "c (h d)"}
Q_KV = {"q": "(h d) c", "kv": "(2 h d) c", "proj": "c (h d)"}

LAYOUTS: dict[type[nn.Module], Row] = {
    pvt_v2.Attention: Layout(Q_KV, heads=("num_heads",), narrow=NarrowPvtV2),
    twins.LocallyGroupedAttn: Layout(QKV, heads=("num_heads",), narrow=NarrowTwinsLocal),
    twins.GlobalSubSampleAttn: Layout(Q_KV, heads=("num_heads",), narrow=NarrowTwinsGlobal),
    nextvit.EfficientAttention: Layout(
        {**dict.fromkeys("qkv", "(h d) c"), "proj": "c (h d)"}, heads=("num_heads",), narrow=NarrowNextVit
    ),
    fastvit.Attention: Layout(QKV, heads=("num_heads",), narrow=NarrowFastVit),
    metaformer.Attention: Layout(QKV, heads=("num_heads", "attention_dim"), narrow=NarrowMetaFormer),
    edgenext.CrossCovarianceAttn: Layout({**QKV, "temperature": "h 1 1"}, heads=("num_heads",), narrow=NarrowEdgeNext),
    visformer.Attention: Layout(QKV, heads=("num_heads",)),
    visformer.SpatialMlp: _visformer_mlp,
    pvt_v2.MlpWithDepthwiseConv: Layout({"fc1": "m c", "dwconv": "m 1", "fc2": "c m"}),
    fastvit.ConvMlp: Layout({"fc1": "m c", "fc2": "c m"}),
    swiftformer.Mlp: Layout({"fc1": "m c", "fc2": "c m"}),
}
