"""Counted cost of a training step: floating-point operations by PyTorch's own counter, never by formulas.

Counting happens on the meta device, where nothing is computed: the same operations are counted on every
machine (CPU and GPU attention kernels differ in how they count), and it takes milliseconds.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

# Shapes: B batch, C channels, H height, W width


def _convolution_backward_flops(
    grad_out_shape: Any,
    x_shape: Any,
    w_shape: Any,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: Any,
    **_: Any,
) -> int:
    """Backward FLOPs of a convolution: each of the two gradients costs what the forward pass costs.

    Replaces torch's own count, which takes the weight gradient of a grouped convolution as dense and so
    counts it `groups` times over. The weight's shape already has in_channels / groups.
    """
    one_gradient = conv_flop_count(list(x_shape), list(w_shape), list(grad_out_shape), transposed=transposed)
    return one_gradient * sum(bool(wanted) for wanted in output_mask[:2])


def count_step_flops(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> int:
    """FLOPs of one forward and backward pass and nothing else (no loss, no optimizer).

    Args:
        model: a model on the meta device, in training mode.
        image_shape_BCHW: shape of the input batch.

    Returns:
        Floating-point operations, a multiply-add counted as two. Norms, activations and softmax count zero.
    """
    images_BCHW = torch.empty(image_shape_BCHW, device="meta")
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_flops},
    )
    with counter:
        output = model(images_BCHW)
        output.sum().backward()
    model.zero_grad(set_to_none=True)
    flops = counter.get_total_flops()
    if flops <= 0:
        raise ValueError(f"no operation was counted for an input of {prod(image_shape_BCHW)} values")
    return flops
