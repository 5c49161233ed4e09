"""Rows for MLPs with gates, convolutions or response norms, which several kinds of model use."""

from timm.layers import ConvMlp, GatherExcite, GlobalContext, GlobalResponseNormMlp, GluMlp, SwiGLU
from timm.models.gemma4_vit import Gemma4GatedMlp
from timm.models.vitamin import GeGluMlp
from torch import nn

from explorer.elastic.layout import Layout, Row

LAYOUTS: dict[type[nn.Module], Row] = {
    GluMlp: Layout({"fc1": "(2 m) c", "norm": "m", "fc2": "c m"}),
    SwiGLU: Layout({"fc1_g": "m c", "fc1_x": "m c", "norm": "m", "fc2": "c m"}),
    ConvMlp: Layout({"fc1": "m c", "fc2": "c m", "norm": "m"}),
    GlobalResponseNormMlp: Layout({"fc1": "m c", "fc2": "c m", "grn": "m"}),
    GeGluMlp: Layout({"w0": "m c", "w1": "m c", "w2": "c m"}),  # its norm is applied to the input
    Gemma4GatedMlp: Layout({"gate_proj.linear": "m c", "up_proj.linear": "m c", "down_proj.linear": "c m"}),
}

WHOLE: tuple[type[nn.Module], ...] = (GatherExcite, GlobalContext)
"""Channel gates of convolutional networks: the ConvMlp inside them is not the MLP of a transformer block."""
