"""The table of layouts: one row for each class that can be resized, grouped by the kind of model.

All are timm's and torchvision's; `hugging_face` adds those of transformers where a model is from there.
"""

from timm.models import coat, efficientvit_msra, mobilevit, nextvit, swiftformer
from torch import nn

from explorer.elastic.layout import Row
from explorer.elastic.layouts import cached_bias, convolutional, isotropic, plain, pyramid, torchvision_models, windowed

LAYOUTS: dict[type[nn.Module], Row] = {
    **plain.LAYOUTS,
    **isotropic.LAYOUTS,
    **windowed.LAYOUTS,
    **pyramid.LAYOUTS,
    **cached_bias.LAYOUTS,
    **convolutional.LAYOUTS,
    **torchvision_models.LAYOUTS,
}
"""Exact classes: a subclass may have another forward pass and needs its own row. `register_layout` adds rows."""

WHOLE: list[type[nn.Module]] = [
    *plain.WHOLE,
    *isotropic.WHOLE,
    coat.FactorAttnConvRelPosEnc,  # its position encoding, shared by blocks, splits the heads into windows of several sizes
    efficientvit_msra.LocalWindowAttention,  # each head takes the output of the one before it
    mobilevit.LinearSelfAttention,  # has no heads
    nextvit.ConvAttention,  # a grouped convolution over the full width
    swiftformer.EfficientAdditiveAttention,  # a single global query
]
"""Modules that keep their full size, with everything inside them. `register_whole` adds classes."""
