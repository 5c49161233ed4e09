"""Rows for timm's relative position biases that are modules of their own: maxvit, coatnet, gcvit, relpos vit."""

from timm.layers.pos_embed_rel import RelPosBias, RelPosBiasTf, RelPosMlp
from torch import nn

from explorer.elastic.layout import Layout, Row

LAYOUTS: dict[type[nn.Module], Row] = {
    RelPosBias: Layout({"relative_position_bias_table": "p h"}, heads=("bias_shape[-1]",)),
    RelPosBiasTf: Layout({"relative_position_bias_table": "h p p"}, heads=("num_heads", "bias_shape[0]")),
    # Its hidden channels make positions, not features: they stay.
    RelPosMlp: Layout({"mlp.fc2": "h c"}, heads=("num_heads", "bias_shape[-1]"), whole=frozenset({"mlp"})),
}
