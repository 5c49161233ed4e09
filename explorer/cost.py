"""Counted cost of a training step: floating-point operations by PyTorch's own counter, never by formulas.

Operations are counted on the meta device, where nothing is computed: this takes milliseconds, and every machine counts the
same operations (CPU and GPU attention kernels would be counted differently).
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

    Replaces torch's own count, which takes the weight gradient of a grouped convolution for dense and therefore counts it
    `groups` times. The weight's shape already has in_channels / groups.
    """
    one_gradient = conv_flop_count(list(x_shape), list(w_shape), list(grad_out_shape), transposed=transposed)
    return one_gradient * sum(bool(wanted) for wanted in output_mask[:2])


def count_step_flops(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> int:
    """Count the FLOPs of one forward and backward pass, without loss and optimizer.

    Args:
        model: a model on the meta device, in training mode.
        image_shape_BCHW: shape of the input batch.

    Returns:
        Floating-point operations; a multiply-add counts as two. Norms, activations and softmax count as zero.

    Raises:
        ValueError: when nothing was counted.
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
