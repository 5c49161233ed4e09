"""Fewer tokens by smaller images during training, for the timm models that accept them without changing a parameter.

Training at lower resolution first is from Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021,
arXiv 2104.00298.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm.models as zoo
from timm.layers import Format, RotaryEmbeddingCat
from timm.models.hieradet_sam2 import HieraDet
from torch import nn
from torch.nn import functional

from explorer.elastic.internals import rotary_cache_switch
from explorer.elastic.token_dropping import Size
from explorer.errors import InvalidInput


class ImageResizing:
    """Interpolates images to a smaller size as they enter a model in training mode, on the device of the images.

    Args:
        model: the timm model.
        support: how its class accepts smaller images.
        image_size: height and width of full images, in pixels.
    """

    policy = "resize"

    def __init__(self, model: nn.Module, support: ResizingSupport, image_size: Size) -> None:
        self._model, self._support, self._full_size = model, support, image_size
        self._stride = support.stride(model)
        self._present_size = list(image_size)
        self._undo: list[Callable[[], None]] = []

    @property
    def smallest(self) -> float:
        """The smallest rate possible: images of one stride; 1 if full images are no larger."""
        return math.prod(min(side, stride) / side for side, stride in zip(self._full_size, self._stride, strict=True))

    def size(self, rate: float) -> Size:
        """Image size at a rate: each side is rounded to the nearest multiple of the stride.

        Raises:
            InvalidInput: if a side would be zero.
        """
        height, width = (self._side(rate, *pair) for pair in zip(self._full_size, self._stride, strict=True))
        return height, width

    def realise(self, rate: float) -> float:
        """The fraction of pixels, and so of tokens, at the size for a requested rate.

        Raises:
            InvalidInput: see `size`.
        """
        return math.prod(self.size(rate)) / math.prod(self._full_size)

    def set(self, rate: float) -> None:
        """Resize images from the next training step on; rate 1 restores the original model.

        Raises:
            InvalidInput: see `size`.
        """
        size = self.size(rate)
        self._present_size[:] = size
        while self._undo:
            self._undo.pop()()
        if size == self._full_size:
            return
        self._undo.append(self._model.register_forward_pre_hook(partial(_resize_images, self._present_size)).remove)
        for module, name, value in self._support.attributes(self._model):
            self._undo.append(partial(setattr, module, name, getattr(module, name)))
            setattr(module, name, value)

    def _side(self, rate: float, full: int, stride: int) -> int:
        if rate == 1:
            return full
        strides = math.floor(full * math.sqrt(rate) / stride + 0.5)
        if strides < 1:
            smallest = f"{(stride / 2 / full) ** 2:.3g}"
            allowed = f"leaves nothing of images whose sides are multiples of {stride}; must be at least {smallest}"
            raise InvalidInput("rates.tokens", rate, allowed)
        return min(full, strides * stride)


def _resize_images(present_size: list[int], model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook that interpolates with antialiasing, so that every pixel of the full images contributes.

    The size is a list that is read when the hook runs: torch collects all hooks before the first of them runs, and that one may
    change the rates.
    """
    images_BCHW, *others = arguments
    if not model.training or list(images_BCHW.shape[2:]) == present_size:
        return None
    return functional.interpolate(images_BCHW, present_size, mode="bilinear", antialias=True), *others


Attributes = Iterator[tuple[nn.Module, str, object]]
"""Module, name of its attribute, and value."""


@dataclass(frozen=True)
class ResizingSupport:
    """How a model class accepts smaller images than it was built for, without changing a parameter."""

    stride: Callable[[Any], Size]
    """Numbers of pixels that the height and width of images must be multiples of, from the model."""
    attributes: Callable[[Any], Attributes] = lambda _: iter(())
    """Attributes to set while images are smaller, from the model."""


def _reduction(model: Any) -> Size:
    """Pixels of one position in the last feature map."""
    stride = int(model.feature_info[-1]["reduction"])
    return stride, stride


def _patch(model: Any) -> Size:
    height, width = model.patch_embed.feat_ratio(as_scalar=False)
    return int(height), int(width)


def _dynamic_image_size(model: Any) -> Attributes:
    """What timm sets for `dynamic_img_size`: each step interpolates absolute positions and computes rotary ones."""
    yield model, "dynamic_img_size", True
    yield from (
        (model.patch_embed, name, value)
        for name, value in {"strict_img_size": False, "flatten": False, "output_fmt": Format.NHWC}.items()
    )
    if isinstance(getattr(model, "rope", None), RotaryEmbeddingCat):
        yield rotary_cache_switch(model.rope)


def _dynamic_windows(model: Any) -> Attributes:
    """What timm's swin models set for `dynamic_img_size`: windows keep their size, and each step pads them and makes masks."""
    yield model.patch_embed, "strict_img_size", False
    yield from ((module, "dynamic_mask", True) for module in model.modules() if hasattr(module, "dynamic_mask"))


def _merged_patches(model: Any) -> Size:
    """Encoders that pool or merge squares of patches at the end need whole squares."""
    encoder = getattr(model, "encoder", model)
    height, width = _reduction(model)
    square = {"soft": "pooling_kernel_size", "merge": "merge_size"}.get(encoder.global_pool)
    patches = int(getattr(encoder, square)) if square else 1
    return height * patches, width * patches


_ANY_SIZE = """
    ByobNet CPUBone CSATv2 DaVit DeepseekVitClassifier DeepseekVitEncoder EdgeNeXt EfficientVit EfficientVitLarge
    EfficientVitMsra FastVit IFormer LowFormer MetaFormer MobileNetV5 MobileNetV5Encoder NaFlexVit NextViT
    PyramidVisionTransformerV2 SHViT SwiftFormer TinyVit Twins VisionTransformerSAM Xcit
"""
"""Classes without attributes to set: no position depends on the image size, or timm interpolates positions in each step."""
_MERGING = "Gemma4VitClassifier Gemma4VitEncoder Qwen3VitClassifier Qwen3VitEncoder"
RESIZING_SUPPORT: dict[type[nn.Module], ResizingSupport] = {
    zoo.VisionTransformer: ResizingSupport(_patch, _dynamic_image_size),
    zoo.Eva: ResizingSupport(_patch, _dynamic_image_size),
    zoo.SwinTransformer: ResizingSupport(_reduction, _dynamic_windows),
    zoo.SwinTransformerV2: ResizingSupport(_reduction, _dynamic_windows),
    zoo.SwinTransformerV2Cr: ResizingSupport(_reduction, _dynamic_windows),
    HieraDet: ResizingSupport(_reduction),
    **{getattr(zoo, name): ResizingSupport(_reduction) for name in _ANY_SIZE.split()},
    **{getattr(zoo, name): ResizingSupport(_merged_patches) for name in _MERGING.split()},
}
"""Model classes that accept smaller images than they were built for, with their subclasses; `register_model` adds classes.

MultiScaleVit (mvitv2) accepts them too, but then reads other rows of its tables of relative positions, so that what it learns
would not fit the full size.
"""


def image_resizing(model: nn.Module, image_size: Size) -> ImageResizing | str:
    """How a model can take smaller images, or why it cannot, as a sentence without its end."""
    support = next((RESIZING_SUPPORT[kind] for kind in type(model).__mro__ if kind in RESIZING_SUPPORT), None)
    if support is None:
        return f"{type(model).__name__} takes images of one size only"
    resizing = ImageResizing(model, support, image_size)
    return resizing if resizing.smallest < 1 else f"{type(model).__name__} takes no images smaller than {image_size[0]} pixels"
