"""Counted cost of a training step: floating-point operations by PyTorch's own counter, never by formulas.

Operations are counted on the meta device, where nothing is computed: this takes milliseconds, and every machine counts the
same operations (CPU and GPU attention kernels would be counted differently).
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

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


LAYER_NORM_MACS = 5
"""Operations per value of a layer norm, as fvcore counts them (fvcore.nn.jit_handles.norm_flop_counter)."""


class StepFlops(NamedTuple):
    """Cost of a training step, without loss and optimizer."""

    total: int
    """Floating-point operations of the forward and backward pass; a multiply-add counts as two. Norms, activations and softmax
    count as zero."""
    forward_macs: int
    """Multiply-adds of the forward pass, and five operations per value of each layer norm.

    This is fvcore's count, and that of "Budgeted Training for Vision Transformer" (ICLR 2023), which calls it FLOPs: with the
    norms, its Table 6 is met to the printed digits for the full models (4.61, 17.58, 3.91 and 8.77 G)."""


ATTENTION, MLP = ("attn", "token_mixer"), ("mlp", "ffn")
"""Parts of the names of timm's modules that are attention and MLPs."""


class PartFlops(NamedTuple):
    """FLOPs of the forward and backward pass by part of the model."""

    attention: int
    mlp: int
    other: int


def _layer_norm_macs(x_shape: Any, *_: Any, **__: Any) -> int:
    return LAYER_NORM_MACS * prod(x_shape)


def count_step_flops(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> int:
    """The total of `count_passes`: FLOPs of one forward and backward pass."""
    return count_passes(model, image_shape_BCHW).total


def count_passes(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> StepFlops:
    """Count the FLOPs of one forward and backward pass, without loss and optimizer.

    Args:
        model: a model on the meta device, in training mode.
        image_shape_BCHW: shape of the input batch.

    Returns:
        Operations of both passes, and multiply-adds of the forward pass.

    Raises:
        ValueError: when nothing was counted.
    """
    counter, forward, norms = _count(model, image_shape_BCHW)
    total, _ = _counted(counter)
    if total <= 0:
        raise ValueError(f"no operation was counted for an input of {prod(image_shape_BCHW)} values")
    return StepFlops(total, forward // 2 + norms)


def count_forward(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> StepFlops:
    """Count the FLOPs and multiply-adds of a forward pass alone, of a model that is not trained.

    Args:
        model: a model on the meta device, in evaluation mode.
        image_shape_BCHW: shape of the input batch.
    """
    counter = _counter()
    with counter, torch.no_grad():
        model(torch.empty(image_shape_BCHW, device="meta"))
    forward, norms = _counted(counter)
    return StepFlops(forward, forward // 2 + norms)


def count_parts(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> PartFlops:
    """Count the FLOPs of one forward and backward pass by part, from the names of timm's modules.

    Args:
        model: a model on the meta device, in training mode.
        image_shape_BCHW: shape of the input batch.
    """
    counter, *_ = _count(model, image_shape_BCHW)
    total, _ = _counted(counter)
    attention, mlp = (_flops_of(counter, names) for names in (ATTENTION, MLP))
    return PartFlops(attention, mlp, max(0, total - attention - mlp))


def _flops_of(counter: FlopCounterMode, names: tuple[str, ...]) -> int:
    """FLOPs of the outermost modules whose name has one of these parts, without layer norms."""
    total = 0
    for module, counts in counter.get_flop_counts().items():
        *outer, last = module.split(".")
        named = any(part in last for part in names) and not any(part in each for each in outer for part in (*ATTENTION, *MLP))
        if named:
            total += sum(int(count) for operation, count in counts.items() if operation != torch.ops.aten.native_layer_norm)
    return total


def _counter() -> FlopCounterMode:
    return FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten.convolution_backward: _convolution_backward_flops,
            torch.ops.aten.native_layer_norm: _layer_norm_macs,
        },
    )


def _count(model: nn.Module, image_shape_BCHW: tuple[int, int, int, int]) -> tuple[FlopCounterMode, int, int]:
    """A counter of both passes, and FLOPs of the forward pass without and of layer norms."""
    images_BCHW = torch.empty(image_shape_BCHW, device="meta")
    counter = _counter()
    with counter:
        output = model(images_BCHW)
        forward, norms = _counted(counter)
        output.sum().backward()
    model.zero_grad(set_to_none=True)
    return counter, forward, norms


def _counted(counter: FlopCounterMode) -> tuple[int, int]:
    """FLOPs so far, without layer norms, and the operations of these."""
    norms = int(counter.get_flop_counts().get("Global", {}).get(torch.ops.aten.native_layer_norm, 0))
    return int(counter.get_total_flops()) - norms, norms
