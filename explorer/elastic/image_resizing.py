"""Fewer tokens by smaller images while the model trains: which timm models take them, their positions kept without loss."""

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

from explorer.elastic.token_dropping import Sides
from explorer.errors import InvalidInput

# Shapes: B batch, C channels, H height, W width


class Resize:
    """Smaller images: interpolated on the device as they enter the model, while it trains.

    Args:
        model: the timm model.
        smaller: how it takes them.
        image_size: the size of full images.
    """

    policy = "resize"

    def __init__(self, model: nn.Module, smaller: Smaller, image_size: Sides) -> None:
        self._model, self._smaller, self._full = model, smaller, image_size
        self._stride = smaller.stride(model)
        self._now = list(image_size)
        self._restore: list[Callable[[], None]] = []

    @property
    def smallest(self) -> float:
        """The smallest rate: images of one stride; 1 where full ones have no more."""
        return math.prod(min(side, stride) / side for side, stride in zip(self._full, self._stride, strict=True))

    def sides(self, rate: float) -> Sides:
        """Image size at a rate: the nearest multiples of the stride on each side.

        Raises:
            InvalidInput: when nothing would be left.
        """
        height, width = (self._side(rate, *pair) for pair in zip(self._full, self._stride, strict=True))
        return height, width

    def realise(self, rate: float) -> float:
        """The rate of pixels, so of tokens, that `sides` gives. Raises as it does."""
        return math.prod(self.sides(rate)) / math.prod(self._full)

    def set(self, rate: float) -> None:
        """Shrink images from the next training step on; at rate 1 leave the model as it was."""
        size = self.sides(rate)
        self._now[:] = size
        while self._restore:
            self._restore.pop()()
        if size == self._full:
            return
        self._restore.append(self._model.register_forward_pre_hook(partial(_shrink, self._now)).remove)
        for module, name, value in self._smaller.switches(self._model):
            self._restore.append(partial(setattr, module, name, getattr(module, name)))
            setattr(module, name, value)

    def _side(self, rate: float, full: int, stride: int) -> int:
        if rate == 1:
            return full
        strides = math.floor(full * math.sqrt(rate) / stride + 0.5)
        if strides < 1:
            least = f"{(stride / 2 / full) ** 2:.3g}"
            raise InvalidInput(
                "rates.tokens",
                rate,
                f"leaves nothing of images whose sides are multiples of {stride}; must be at least {least}",
            )
        return min(full, strides * stride)


def _shrink(now: list[int], model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook. Antialiased, so that every pixel counts.

    The size is read as it runs: torch collects the hooks before the first of them runs, which may resize the model.
    """
    images_BCHW, *others = arguments
    if not model.training or list(images_BCHW.shape[2:]) == now:
        return None
    return functional.interpolate(images_BCHW, now, mode="bilinear", antialias=True), *others


Switches = Iterator[tuple[nn.Module, str, object]]


@dataclass(frozen=True)
class Smaller:
    """How a model takes smaller images than it was built for, without touching a parameter."""

    stride: Callable[[Any], Sides]
    """Model -> what image sides are multiples of."""
    switches: Callable[[Any], Switches] = lambda _: iter(())
    """Model -> attributes to set meanwhile: module, name, value."""


def _reduction(model: Any) -> Sides:
    """Pixels that make a last feature."""
    stride = int(model.feature_info[-1]["reduction"])
    return stride, stride


def _patch(model: Any) -> Sides:
    height, width = model.patch_embed.feat_ratio(as_scalar=False)
    return int(height), int(width)


def _dynamic_image_size(model: Any) -> Switches:
    """What timm's `dynamic_img_size` does: absolute positions are interpolated at each step, rotary ones made anew."""
    yield model, "dynamic_img_size", True
    yield from (
        (model.patch_embed, name, value)
        for name, value in {"strict_img_size": False, "flatten": False, "output_fmt": Format.NHWC}.items()
    )
    if isinstance(getattr(model, "rope", None), RotaryEmbeddingCat):
        yield model.rope, "_use_cached_embed", False


def _dynamic_windows(model: Any) -> Switches:
    """What timm's swins do with `dynamic_img_size`: windows stay, the last ones are padded, masks are made at each step."""
    yield model.patch_embed, "strict_img_size", False
    yield from ((module, "dynamic_mask", True) for module in model.modules() if hasattr(module, "dynamic_mask"))


def _merged_patches(model: Any) -> Sides:
    """Encoders that pool or merge squares of patches at the end take whole squares."""
    encoder = getattr(model, "encoder", model)
    height, width = _reduction(model)
    square = {"soft": "pooling_kernel_size", "merge": "merge_size"}.get(encoder.global_pool)
    patches = int(getattr(encoder, square)) if square else 1
    return height * patches, width * patches


_NATIVE = """
    ByobNet CPUBone CSATv2 DaVit DeepseekVitClassifier DeepseekVitEncoder EdgeNeXt EfficientVit EfficientVitLarge
    EfficientVitMsra FastVit IFormer LowFormer MetaFormer MobileNetV5 MobileNetV5Encoder NaFlexVit NextViT
    PyramidVisionTransformerV2 SHViT SwiftFormer TinyVit Twins VisionTransformerSAM Xcit
"""
"""Classes of which nothing has to be set: no position depends on the image size, or timm interpolates at each step."""
_MERGING = "Gemma4VitClassifier Gemma4VitEncoder Qwen3VitClassifier Qwen3VitEncoder"
SMALLER: dict[type[nn.Module], Smaller] = {
    zoo.VisionTransformer: Smaller(_patch, _dynamic_image_size),
    zoo.Eva: Smaller(_patch, _dynamic_image_size),
    zoo.SwinTransformer: Smaller(_reduction, _dynamic_windows),
    zoo.SwinTransformerV2: Smaller(_reduction, _dynamic_windows),
    zoo.SwinTransformerV2Cr: Smaller(_reduction, _dynamic_windows),
    HieraDet: Smaller(_reduction),
    **{getattr(zoo, name): Smaller(_reduction) for name in _NATIVE.split()},
    **{getattr(zoo, name): Smaller(_merged_patches) for name in _MERGING.split()},
}
"""Classes that take smaller images than they were built for.

MultiScaleVit (mvitv2) would, but reads other rows of its tables of relative positions then: what they learn would not fit the
full size.
"""


def resizing(model: nn.Module, image_size: Sides) -> Resize | str:
    """How a model can take smaller images, or why not."""
    smaller = next((SMALLER[kind] for kind in type(model).__mro__ if kind in SMALLER), None)
    if smaller is None:
        return f"{type(model).__name__} takes images of one size only"
    resize = Resize(model, smaller, image_size)
    return resize if resize.smallest < 1 else f"{type(model).__name__} takes no images smaller than {image_size[0]} pixels"
