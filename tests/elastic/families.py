"""Small models of all families in the table of layouts, each built once."""

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import timm
import torch

from explorer.elastic.testing import Family, randomized
from tests.elastic import families_hierarchical, families_isotropic

FAMILIES = {**families_isotropic.FAMILIES, **families_hierarchical.FAMILIES}
NORM_OVER_WIDTH = families_isotropic.WIDTH_NORMED | families_hierarchical.WIDTH_NORMED


def image_size(label: str) -> int:
    """Height and width of the images for a family, in pixels."""
    if label in families_hierarchical.FAMILIES:
        return families_hierarchical.image_size(label)
    return int(FAMILIES[label][1].get("img_size", 32))


def create(model: str | Callable[..., torch.nn.Module], options: dict[str, Any]) -> torch.nn.Module:
    """A model from its timm name or its class."""
    return timm.create_model(model, **options) if isinstance(model, str) else model(**options)


@lru_cache(maxsize=2)  # tests are grouped by family
def _template(label: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomized(create(*FAMILIES[label]))


def family(label: str) -> Family:
    """The family with a label, its model in double precision and with random weights."""
    size = image_size(label)
    return Family(
        build=lambda: copy.deepcopy(_template(label)),
        image_shape=(2, 3, size, size),
        norm_over_width=label in NORM_OVER_WIDTH,
    )
