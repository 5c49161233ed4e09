"""The table: one row for each timm class that can be resized, grouped by the kind of model it stands in."""

from timm.models import coat, efficientvit_msra, mobilevit, nextvit, swiftformer
from torch import nn

from explorer.elastic.layout import Row
from explorer.elastic.layouts import cached_bias, convolutional, isotropic, plain, pyramid, windowed

LAYOUTS: dict[type[nn.Module], Row] = {
    **plain.LAYOUTS,
    **isotropic.LAYOUTS,
    **windowed.LAYOUTS,
    **pyramid.LAYOUTS,
    **cached_bias.LAYOUTS,
    **convolutional.LAYOUTS,
}
"""Exact classes: a subclass may have another forward pass and needs a row of its own."""

WHOLE: tuple[type[nn.Module], ...] = (
    *plain.WHOLE,
    *isotropic.WHOLE,
    coat.FactorAttnConvRelPosEnc,  # its position encoding, shared by blocks, splits the heads into windows of several sizes
    efficientvit_msra.LocalWindowAttention,  # heads are fed one after the other
    mobilevit.LinearSelfAttention,  # has no heads
    nextvit.ConvAttention,  # a grouped convolution over all of the width
    swiftformer.EfficientAdditiveAttention,  # a single global query
)
"""Modules left whole with everything inside them."""
