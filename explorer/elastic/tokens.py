"""Fewer tokens in a training step: random ones are dropped, or the images are made smaller. Evaluation sees them all.

Neither way touches a parameter: at rate 1 the model is the plain timm model, attributes and hooks included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

import timm.models as zoo
from timm.layers import Format, PatchDropout, PatchDropoutWithIndices, RotaryEmbeddingCat, to_2tuple
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn
from torch.nn import functional

from explorer.errors import InvalidInput

# Shapes: B batch, C channels, H height, W width, N tokens, U mask units, D features

TokenPolicy = Literal["auto", "drop", "resize"]
Sides = tuple[int, int]
"""Height and width in pixels, patches or strides."""


class Drop:
    """Random patch dropout (PatchDropout, arXiv 2208.07220).

    Args:
        model: the timm model.
        place: where its tokens are dropped.
        tokens: how many there are to choose from, without class and register tokens.
    """

    policy = "drop"

    def __init__(self, model: nn.Module, place: Place, tokens: int) -> None:
        self._model, self._place, self._tokens = model, place, tokens
        self._untouched: Any = getattr(model, place.attribute)

    @property
    def smallest(self) -> float:
        """The smallest rate: one token."""
        return 1 / self._tokens

    def realise(self, rate: float) -> float:
        """The rate of whole tokens nearest to a requested one.

        Raises:
            InvalidInput: when none would be left.
        """
        return self._kept(rate) / self._tokens

    def set(self, rate: float) -> None:
        """Drop tokens from the next training step on; at rate 1 leave the model as it was."""
        kept, name = self._kept(rate), self._place.attribute
        if kept < self._tokens:
            # timm keeps int(tokens * (1 - prob)) of them; aim half a token above, out of reach of rounding.
            prob = 1 - (kept + 0.5) / self._tokens
            dropout = self._place.dropout(self._model, self._untouched, prob)
            setattr(self._model, name, dropout.train(self._model.training))
        elif getattr(self._model, name) is not self._untouched:
            if self._untouched is None:
                delattr(self._model, name)  # a plain attribute again, not a registered module
            setattr(self._model, name, self._untouched)

    def _kept(self, rate: float) -> int:
        kept = math.floor(rate * self._tokens + 0.5)
        if kept < 1:
            least = f"{0.5 / self._tokens:.3g}"
            raise InvalidInput("rates.tokens", rate, f"leaves none of the {self._tokens} tokens; must be at least {least}")
        return kept


@dataclass(frozen=True)
class Place:
    """Where a model's tokens are dropped."""

    attribute: str
    """The model's child that is replaced."""
    dropout: Callable[[Any, Any, float], nn.Module]
    """Model, untouched child and share of the tokens to drop -> what takes the child's place."""
    tokens: Callable[[Any, Sides], int]
    """Model and image size -> number of tokens, 0 where this model cannot drop any."""


class MaskUnitDropout(nn.Module):
    """Hiera's tokens are dropped in whole mask units; behind `Unroll` they stand in the order (place in its unit, unit)."""

    def __init__(self, prob: float, unit_tokens: int) -> None:
        super().__init__()
        self.units = PatchDropout(prob, num_prefix_tokens=0)
        self.unit_tokens = unit_tokens

    def forward(self, x_BND: Tensor) -> Tensor:
        """Shape (B, kept N, D)."""
        batch, _, width = x_BND.shape
        x_BU = x_BND.view(batch, self.unit_tokens, -1, width).transpose(1, 2).flatten(2)
        x_BU = self.units(x_BU)
        return x_BU.view(batch, -1, self.unit_tokens, width).transpose(1, 2).flatten(1, 2)


def _prefix(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0))


def _embedded_patches(model: Any, image_size: Sides) -> int:
    embed = model.patch_embed
    same = tuple(embed.img_size) == image_size
    return int(embed.num_patches) if same else math.prod(embed.dynamic_feat_size(image_size))


def _naflex_patches(model: Any, image_size: Sides) -> int:
    # The frequencies of mixed rotary positions are not gathered for the tokens that stay.
    return 0 if model.rope_is_mixed else math.prod(model.embeds.dynamic_feat_size(image_size))


def _in_mask_units(model: Any, unroll: nn.Module, prob: float) -> nn.Module:
    return nn.Sequential(unroll, MaskUnitDropout(prob, model.mu_size))


PLACES: dict[type[nn.Module], Place] = {
    zoo.VisionTransformer: Place(
        "patch_drop", lambda model, _, prob: PatchDropout(prob, num_prefix_tokens=_prefix(model)), _embedded_patches
    ),
    # Rotary positions are gathered for the tokens that stay.
    zoo.Eva: Place(
        "patch_drop", lambda model, _, prob: PatchDropoutWithIndices(prob, num_prefix_tokens=_prefix(model)), _embedded_patches
    ),
    zoo.NaFlexVit: Place(
        "patch_drop", lambda model, _, prob: PatchDropoutWithIndices(prob, num_prefix_tokens=_prefix(model)), _naflex_patches
    ),
    # The class token joins later.
    zoo.Cait: Place(
        "pos_drop",
        lambda _, pos_drop, prob: nn.Sequential(pos_drop, PatchDropout(prob, num_prefix_tokens=0)),
        _embedded_patches,
    ),
    zoo.Hiera: Place(
        "unroll",
        _in_mask_units,
        lambda model, _: math.prod(model.mask_spatial_shape),
    ),
}
"""Classes whose tokens can be dropped. SAM has a `patch_drop` too, but its windows need the whole grid."""


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
        while self._restore:
            self._restore.pop()()
        if size == self._full:
            return
        self._restore.append(self._model.register_forward_pre_hook(partial(_shrink, size)).remove)
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


def _shrink(size: Sides, model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook. Antialiased, so that every pixel counts."""
    if not model.training:
        return None
    images_BCHW, *others = arguments
    return functional.interpolate(images_BCHW, size, mode="bilinear", antialias=True), *others


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


def token_policies(model: nn.Module, image_size: int | Sides | None = None) -> tuple[Literal["drop", "resize"], ...]:
    """The ways in which a model's tokens can be made fewer.

    Args:
        model: a timm model.
        image_size: of its full images, a side or height and width in pixels; none: what the model was built for.
    """
    return tuple(policy for policy, way in _WAYS.items() if not isinstance(way(model, _sides(model, image_size)), str))


def token_reduction(
    model: nn.Module, policy: TokenPolicy = "auto", image_size: int | Sides | None = None
) -> Drop | Resize | Impossible:
    """The way in which tokens are made fewer by a policy.

    Args:
        model: a timm model, untouched.
        policy: `auto` drops where the model can, else resizes.
        image_size: as in `token_policies`.
    """
    sides = _sides(model, image_size)
    ways = {name: way(model, sides) for name, way in _WAYS.items()}
    possible = [name for name, way in ways.items() if not isinstance(way, str)]
    for name in possible:
        if policy in ("auto", name):
            return cast(Drop | Resize, ways[name])
    if policy == "auto":
        return Impossible(None, f"must stay at 1: {ways['drop']}, and {ways['resize']}")
    return Impossible(policy, f"{ways[policy]}; {f'use {possible[0]}' if possible else 'keep rates.tokens at 1'}")


@dataclass(frozen=True)
class Impossible:
    """Tokens cannot be made fewer: only rate 1 is possible."""

    policy: TokenPolicy | None
    """The policy to blame; none where no other would do."""
    reason: str
    smallest = 1.0

    def realise(self, rate: float) -> float:
        """1.

        Raises:
            InvalidInput: at any other rate.
        """
        if rate < 1:
            field, value = ("staging.token_policy", self.policy) if self.policy else ("rates.tokens", rate)
            raise InvalidInput(field, value, self.reason)
        return 1.0

    def set(self, rate: float) -> None:
        """Nothing. Raises as `realise` does."""
        self.realise(rate)


def _drop(model: nn.Module, image_size: Sides) -> Drop | str:
    place = _of_class(model, PLACES)
    tokens = place.tokens(model, image_size) if place else 0
    return Drop(model, place, tokens) if place and tokens > 1 else f"{type(model).__name__} has no place to drop tokens"


def _resize(model: nn.Module, image_size: Sides) -> Resize | str:
    smaller = _of_class(model, SMALLER)
    if smaller is None:
        return f"{type(model).__name__} takes images of one size only"
    resize = Resize(model, smaller, image_size)
    return resize if resize.smallest < 1 else f"{type(model).__name__} takes no images smaller than {image_size[0]} pixels"


_WAYS: dict[Literal["drop", "resize"], Callable[[nn.Module, Sides], Drop | Resize | str]] = {"drop": _drop, "resize": _resize}
"""Policy -> what does it with a model, or why nothing can."""
T = TypeVar("T")


def _of_class(model: nn.Module, table: Mapping[type[nn.Module], T]) -> T | None:
    return next((table[kind] for kind in type(model).__mro__ if kind in table), None)


def _sides(model: Any, image_size: int | Sides | None) -> Sides:
    if image_size is None:
        published = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        image_size = getattr(getattr(model, "patch_embed", None), "img_size", None) or published[1:]
    return to_2tuple(image_size)
