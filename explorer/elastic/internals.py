"""Everything this package relies on in torch and timm that their documentation does not promise.

Each function names what it relies on; `tests/elastic/test_internals.py` tests each directly, so a release that changes one
fails there by name. The layout table depends on the source text of timm's classes too: `tests/elastic/test_fingerprints.py`
covers it.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import RotaryEmbeddingCat
from timm.optim import Adafactor, AdafactorBigVision
from timm.optim.adafactor_bv import _factored_dims
from torch import Tensor, nn
from torch.optim import Optimizer


def renew_gradient_node(parameter: Tensor) -> None:
    """Detach a parameter from the graphs of earlier steps, so that its data can get another shape. Its data is lost.

    The node that accumulates a parameter's gradient (AccumulateGrad) stores the shape of the data. Autograd creates one node
    per parameter and uses it as long as anything refers to it: a loss whose graph the caller still holds, or the hooks of
    DistributedDataParallel. After a resize, that node would refuse gradients of the new shape. Autograd replaces it only if
    the type of the data changes (`VariableHooks::set_data` in torch/csrc/autograd/variable.cpp), so the data has another type
    for a moment.

    Args:
        parameter: a leaf tensor; the caller assigns the new data to `parameter.data` afterwards.
    """
    other_dtype = torch.bfloat16 if parameter.dtype == torch.float16 else torch.float16
    parameter.data = parameter.data.new_empty(0, dtype=other_dtype)


def rotary_cache_switch(rope: RotaryEmbeddingCat) -> tuple[nn.Module, str, object]:
    """The attribute that makes timm compute rotary position embeddings for each image size instead of for one size.

    Returns:
        Module, name of its attribute (`_use_cached_embed`), and the value to set.
    """
    return rope, "_use_cached_embed", False


def factored_dims(optimizer: Optimizer, group: dict[str, Any], size: torch.Size) -> tuple[int, int] | None:
    """The two dimensions along which timm's Adafactor factors the second moments of a parameter; `None` if it does not.

    Args:
        optimizer: `Adafactor` (`_get_options`) or `AdafactorBigVision` (`_factored_dims`).
        group: the parameter's group.
        size: size of the parameter.
    """
    smallest = group["min_dim_size_to_factor"]
    if isinstance(optimizer, AdafactorBigVision):
        dims: tuple[int, int] | None = _factored_dims(tuple(size), True, smallest)
    else:
        dims, _ = Adafactor._get_options(group, size, min_size_to_factor=smallest)
    return dims


def differential_lambda(module: Any) -> Tensor:
    """Weight of the second attention in timm's differential attention, a scalar (`_compute_lambda`)."""
    value: Tensor = module._compute_lambda()
    return value


def beit_position_bias(module: Any) -> Tensor:
    """Position bias of BEiT's attention, (1, heads, N, N) (`_get_rel_pos_bias`)."""
    bias: Tensor = module._get_rel_pos_bias()
    return bias


def swin_v2_cr_position_bias(module: Any) -> Tensor:
    """Position bias of a window of Swin v2 (cr), (1, heads, N, N) (`_relative_positional_encodings`)."""
    bias: Tensor = module._relative_positional_encodings()
    return bias
