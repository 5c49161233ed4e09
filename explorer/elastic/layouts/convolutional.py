"""Rows for attention inside convolutional networks: efficientvit, lowformer, cpubone, iformer, shvit, mobilenet v4 and v5.

Their inverted bottlenecks are convolutional blocks and keep their size, except the one that is efficientvit's MLP.
"""

from typing import Any

from timm.layers import Attention2d, MultiQueryAttention2d
from timm.models import cpubone, efficientvit_mit, efficientvit_msra, iformer, lowformer, shvit
from torch import nn

from explorer.elastic.layout import Layout, Row


def _multi_scale(module: Any) -> Layout:
    """Linear attention on several scales, each with all heads; no attribute has the number of heads."""
    scales, width = len(module.aggreg), 3 * module.dim
    tensors = {"qkv.conv": f"(h {width}) c", "qkv.norm": f"(h {width})"}
    for scale in range(scales):
        tensors |= {f"aggreg.{scale}.0": f"(h {width}) 1", f"aggreg.{scale}.1": f"(h {width}) p"}
    return Layout({**tensors, "proj.conv": f"c ({1 + scales} h {module.dim})"})


def _upsampled(module: Any) -> Layout:
    """In some models the upsampling is also the output projection; a transposed convolution has its inputs first."""
    tensors = {"pwise": "(h d) c", "o_proj": "c (h d)"}
    if isinstance(module.o_proj, nn.Identity):
        transposed = isinstance(module.upsampling, nn.ConvTranspose2d)
        tensors |= {"upsampling.weight": "(h d) c"} if transposed else {"upsampling.0": "c (h d)"}
    return Layout(tensors, heads=("num_heads", "o_proj_inpdim"))


def _lowformer_block(module: Any) -> Layout | None:
    """The MLP is a `Sequential` in the block; some models have none."""
    return None if isinstance(module.mlp, nn.Identity) else Layout({"mlp.main.1": "m c", "mlp.main.3": "c m"})


def _head_first(module: Any) -> Layout:
    return Layout({"qkv": "(h d) c" if module.head_first else "(3 h d) c", "proj": "c (h d)"}, heads=("num_heads",))


LAYOUTS: dict[type[nn.Module], Row] = {
    efficientvit_mit.LiteMLA: _multi_scale,
    efficientvit_mit.EfficientVitBlock: Layout(
        {
            "local_module.main.inverted_conv.conv": "m c",
            "local_module.main.inverted_conv.norm": "m",
            "local_module.main.depth_conv.conv": "m 1",
            "local_module.main.depth_conv.norm": "m",
            "local_module.main.point_conv.conv": "c m",
        }
    ),
    # Each head of its cascaded attention has its own layers and its own slice of the input, so the attention keeps its size.
    efficientvit_msra.ConvMlp: Layout({"pw1.conv": "m c", "pw1.bn": "m", "pw2.conv": "c m"}),
    lowformer.ConvAttention: _upsampled,
    lowformer.LowFormerBlock: _lowformer_block,
    cpubone.ConvAttention: _upsampled,
    cpubone.CPUBoneBlock: Layout({"total.0.1.main.1": "m c", "total.0.1.main.3": "c m"}),
    # The attention of both has a single head.
    iformer.FFN: Layout({"mixer.module.0.c": "m c", "mixer.module.0.bn": "m", "mixer.module.2.c": "c m"}),
    shvit.FFN: Layout({"pw1.c": "m c", "pw1.bn": "m", "pw2.c": "c m"}),
    Attention2d: _head_first,
    # All heads share one key and one value, which keep their size.
    MultiQueryAttention2d: Layout({"query.proj": "(h d) c", "output.proj": "c (h d)"}, heads=("num_heads",)),
}
