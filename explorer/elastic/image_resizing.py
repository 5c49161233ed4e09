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
from itertools import chain
from typing import Any, Literal

import timm.models as zoo
from timm.layers import Format, RotaryEmbeddingCat
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn
from torch.nn import functional

from explorer.elastic.class_table import row_of
from explorer.elastic.internals import rotary_cache_switch
from explorer.elastic.token_dropping import Size
from explorer.elastic.windows import ShrinkingWindows, windows_obstacle
from explorer.errors import InvalidInput


class ImageResizing:
    """Interpolates images to a smaller size as they enter a model in training mode, on the device of the images.

    The model has to be called itself: `forward_features` and its other methods take images as they are.

    Args:
        model: the timm model.
        support: how its class accepts smaller images.
        image_size: height and width of full images, in pixels.
    """

    policy: Literal["resize", "center"] = "resize"

    def __init__(self, model: nn.Module, support: ResizingSupport, image_size: Size) -> None:
        self._model, self._support, self._full_size = model, support, image_size
        self._windows = ShrinkingWindows(model, image_size)
        height, width = (math.lcm(*strides) for strides in zip(support.stride(model), self._windows.strides(), strict=True))
        self._stride = height, width
        self._present_size = list(image_size)
        self._undo: list[Callable[[], None]] = []

    @property
    def smallest(self) -> float:
        """The smallest rate possible: images of one stride; 1 if full images are no larger."""
        return math.prod(min(side, stride) / side for side, stride in zip(self._full_size, self._stride, strict=True))

    @property
    def tokens(self) -> int:
        """Number of patch tokens of full images; in a pyramid, of its first level."""
        first = getattr(self._model, "feature_info", None)
        height, width = (first[0]["reduction"],) * 2 if first else self._support.stride(self._model)
        return (self._full_size[0] // height) * (self._full_size[1] // width)

    @property
    def obstacle(self) -> str | None:
        """Why there are no smaller images, as a sentence without its end; `None` if there are."""
        if self.smallest < 1:
            return None
        kind = type(self._model).__name__
        windows = windows_obstacle(self._windows, self._full_size)
        return f"{kind} takes no images smaller than {self._full_size[0]} pixels" + (f": {windows}" if windows else "")

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
        self._windows.restore()
        if size != self._full_size:
            self._undo.extend(self._begin())
            self._windows.shrink(size)

    def _begin(self) -> Iterator[Callable[[], None]]:
        """Change the model for the present size, which is smaller; yields what restores it."""
        hook = partial(_resize_images, self._present_size)
        yield self._model.register_forward_pre_hook(hook, with_kwargs=True).remove
        yield from self._follow_mode()
        for module, name, value in self._support.attributes(self._model):
            yield partial(setattr, module, name, getattr(module, name))
            setattr(module, name, value)

    def _follow_mode(self) -> Iterator[Callable[[], None]]:
        """Let the windows follow the mode of the model; yields what ends it.

        The hook is on the first module, which `forward_features` and other methods of the model call, too.
        """
        if self._windows.largest() is not None:
            first: nn.Module = getattr(self._model, "patch_embed", self._model)
            yield first.register_forward_pre_hook(partial(_follow_mode, self._windows, self._model)).remove

    def _side(self, rate: float, full: int, stride: int) -> int:
        if rate == 1:
            return full
        strides = math.floor(full * math.sqrt(rate) / stride + 0.5)
        if strides < 1:
            smallest = f"{(stride / 2 / full) ** 2:.3g}"
            allowed = f"leaves nothing of images whose sides are multiples of {stride}; must be at least {smallest}"
            raise InvalidInput("rates.tokens", rate, allowed)
        return min(full, strides * stride)


def _follow_mode(windows: ShrinkingWindows, model: nn.Module, *_: object) -> None:
    """Forward pre-hook of a module of the model."""
    windows.follow_mode(model.training)


def _resize_images(
    present_size: list[int], model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any] | None = None
) -> tuple[Any, ...] | None:
    """Forward pre-hook that interpolates with antialiasing, so that every pixel of the full images contributes.

    The size is read when the hook runs: torch collects all hooks before the first of them runs, and that one may change the
    rates. This hook is then removed already, and torch calls it without the keywords.

    Raises:
        InvalidInput: when there are no images among the arguments, or they would have to be enlarged.
    """
    if not model.training or (keywords is None and not arguments):
        return None
    place, images_BCHW = _images(arguments, keywords or {})
    size = list(images_BCHW.shape[2:])
    if size == present_size:
        return None
    if any(side < wanted for side, wanted in zip(size, present_size, strict=True)):
        reason = (
            f"are smaller than the {present_size[0]} x {present_size[1]} pixels of this stage, and are not enlarged: give the "
            "size of full images, to StagedTraining as image_shape"
        )
        raise InvalidInput("images", f"{size[0]} x {size[1]} pixels", reason)
    smaller = functional.interpolate(images_BCHW, present_size, mode="bilinear", antialias=True)
    if isinstance(place, str):
        return arguments, {**(keywords or {}), place: smaller}
    replaced = (*arguments[:place], smaller, *arguments[place + 1 :])
    return replaced if keywords is None else (replaced, keywords)


def _images(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[int | str, Tensor]:
    """The images among the arguments of a model, and the position or name of the argument."""
    places: Iterator[tuple[int | str, Any]] = chain(enumerate(arguments), keywords.items())
    for place, value in places:
        if isinstance(value, Tensor) and value.ndim == 4:
            return place, value
    raise InvalidInput("staging.token_policy", "resize", "needs a batch of images, a tensor of four dimensions, in training")


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


def _any_image_size(model: Any) -> Attributes:
    """For swin models, whose windows shrink with the image: `windows.py`."""
    yield model.patch_embed, "strict_img_size", False


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
    zoo.SwinTransformer: ResizingSupport(_reduction, _any_image_size),
    zoo.SwinTransformerV2: ResizingSupport(_reduction, _any_image_size),
    zoo.SwinTransformerV2Cr: ResizingSupport(_reduction, _any_image_size),
    HieraDet: ResizingSupport(_reduction),
    **{getattr(zoo, name): ResizingSupport(_reduction) for name in _ANY_SIZE.split()},
    **{getattr(zoo, name): ResizingSupport(_merged_patches) for name in _MERGING.split()},
}
"""Model classes that accept smaller images than they were built for, with their subclasses; `register_model` adds classes.

MultiScaleVit (mvitv2) accepts them too, but then reads other rows of its tables of relative positions, so that what it learns
would not fit the full size.
"""


def resizing_support(model: nn.Module) -> ResizingSupport | None:
    """How a model's class accepts smaller images; `None` if it does not."""
    return row_of(RESIZING_SUPPORT, model)


def image_resizing(model: nn.Module, image_size: Size) -> ImageResizing | str:
    """How a model can take smaller images, or why it cannot, as a sentence without its end."""
    support = resizing_support(model)
    if support is None:
        return f"{type(model).__name__} takes images of one size only"
    resizing = ImageResizing(model, support, image_size)
    return resizing.obstacle or resizing
