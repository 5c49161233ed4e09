"""Rows for models whose blocks all have one width, except the plain vision transformer."""

from torch import nn

from explorer.elastic.layout import Row
from explorer.elastic.layouts import class_attention, eva_beit, mlps, parallel

LAYOUTS: dict[type[nn.Module], Row] = {
    **eva_beit.LAYOUTS,
    **class_attention.LAYOUTS,
    **parallel.LAYOUTS,
    **mlps.LAYOUTS,
}

WHOLE: tuple[type[nn.Module], ...] = mlps.WHOLE
