"""Rows for attention with biases by offset, which evaluation caches: levit, tiny_vit, efficientformer v1 and v2."""

from timm.models import efficientformer, efficientformer_v2, levit, tiny_vit
from torch import nn

from explorer.elastic.layout import Layout, Row

CACHE = ("attention_bias_cache",)
KEYS_AND_VALUES = ("num_heads", "key_attn_dim", "val_attn_dim")


def _normed(name: str, pattern: str, layer: str) -> dict[str, str]:
    """A projection and the batch norm after it, whose tensors follow the pattern's first dimension."""
    return {f"{name}.{layer}": pattern, f"{name}.bn": pattern}


EFFICIENTFORMER_V2 = {
    "attention_biases": "h p",
    **_normed("k", "(h d) c", "conv"),
    **_normed("v", "(h d) c", "conv"),
    **_normed("v_local", "(h d) 1", "conv"),
    "proj.conv": "c (h d)",
}

LAYOUTS: dict[type[nn.Module], Row] = {
    # The query, key and value of a head are adjacent: `d` is their total width.
    levit.Attention: Layout(
        {"attention_biases": "h p", **_normed("qkv", "(h d) c", "linear"), "proj.ln.linear": "c (h d)"},
        heads=KEYS_AND_VALUES,
        caches=CACHE,
    ),
    levit.AttentionDownsample: Layout(
        {
            "attention_biases": "h p",
            **_normed("kv", "(h d) c", "linear"),
            **_normed("q.ln", "(h d) c", "linear"),
            "proj.ln.linear": "c (h d)",
        },
        heads=KEYS_AND_VALUES,
        caches=CACHE,
    ),
    levit.LevitMlp: Layout({**_normed("ln1", "m c", "linear"), "ln2.linear": "c m"}),
    tiny_vit.Attention: Layout(
        {"attention_biases": "h p", "qkv": "(h d) c", "proj": "c (h d)"}, heads=("num_heads", "out_dim"), caches=CACHE
    ),
    tiny_vit.NormMlp: Layout({"fc1": "m c", "fc2": "c m"}),
    efficientformer.Attention: Layout(
        {"attention_biases": "h p", "qkv": "(h d) c", "proj": "c (h d)"}, heads=KEYS_AND_VALUES, caches=CACHE
    ),
    efficientformer.ConvMlpWithNorm: Layout({"fc1": "m c", "norm1": "m", "fc2": "c m"}),
    efficientformer_v2.Attention2d: Layout(
        {**EFFICIENTFORMER_V2, **_normed("q", "(h d) c", "conv"), "talking_head1": "h h", "talking_head2": "h h"},
        heads=("num_heads", "dh"),
        caches=CACHE,
    ),
    efficientformer_v2.Attention2dDownsample: Layout(
        {**EFFICIENTFORMER_V2, **_normed("q.proj", "(h d) c", "conv")}, heads=("num_heads", "dh"), caches=CACHE
    ),
    efficientformer_v2.ConvMlpWithNorm: Layout(
        {**_normed("fc1", "m c", "conv"), **_normed("mid", "m 1", "conv"), "fc2.conv": "c m"}
    ),
}
