"""Wrapped models are recognized, whatever torch calls their classes."""

import timm
import torch
from torch import nn

from explorer.production.wrappers import is_wrapped


def test_models_of_torch_compile_and_data_parallel_are_wrapped():
    """Fails when a release of torch gives compiled models another class: `wrappers.WRAPPERS` must then name it."""
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert not is_wrapped(model)
    assert is_wrapped(torch.compile(model, backend="eager"))
    assert is_wrapped(nn.DataParallel(model))
