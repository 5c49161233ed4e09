"""Fewer tokens by dropping random ones during training, for the timm models in which tokens can be dropped.

Patch dropout is from Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023,
arXiv 2208.07220; dropping whole mask units, for Hiera, from Ryali et al., "Hiera: A Hierarchical Vision Transformer without the
Bells-and-Whistles", ICML 2023, arXiv 2306.00989.

Shapes: B batch, N tokens, U mask units, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.models as zoo
from timm.layers import PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn

from explorer.errors import InvalidInput

Size = tuple[int, int]
"""Height and width, in pixels or patches."""


class TokenDropping:
    """Drops random tokens of a model in training mode.

    Args:
        model: the timm model.
        location: where in the model tokens are dropped.
        tokens: number of tokens that can be dropped, without class and register tokens.
    """

    policy = "drop"

    def __init__(self, model: nn.Module, location: DropLocation, tokens: int) -> None:
        self._model, self._location, self._tokens = model, location, tokens
        self._original: Any = getattr(model, location.attribute)

    @property
    def smallest(self) -> float:
        """The smallest rate possible: one token."""
        return 1 / self._tokens

    def realise(self, rate: float) -> float:
        """The rate of the number of tokens nearest to a requested rate.

        Raises:
            InvalidInput: if no token would be left.
        """
        return self._kept(rate) / self._tokens

    def set(self, rate: float) -> None:
        """Drop tokens from the next training step on; rate 1 restores the original model.

        Raises:
            InvalidInput: if no token would be left.
        """
        kept, name = self._kept(rate), self._location.attribute
        if kept < self._tokens:
            # timm keeps int(tokens * (1 - prob)): half a token more keeps rounding errors from changing that.
            prob = 1 - (kept + 0.5) / self._tokens
            dropout = self._location.dropout(self._model, self._original, prob)
            setattr(self._model, name, dropout.train(self._model.training))
        elif getattr(self._model, name) is not self._original:
            if self._original is None:
                delattr(self._model, name)  # so that it is a plain attribute again, not a registered module
            setattr(self._model, name, self._original)

    def _kept(self, rate: float) -> int:
        kept = math.floor(rate * self._tokens + 0.5)
        if kept < 1:
            smallest = f"{0.5 / self._tokens:.3g}"
            allowed = f"leaves none of the {self._tokens} tokens; must be at least {smallest}"
            raise InvalidInput("rates.tokens", rate, allowed)
        return kept


@dataclass(frozen=True)
class DropLocation:
    """Where tokens can be dropped in a model class."""

    attribute: str
    """Name of the model's child that is replaced while tokens are dropped."""
    dropout: Callable[[Any, Any, float], nn.Module]
    """Makes the replacement from the model, its original child, and the fraction of tokens to drop."""
    tokens: Callable[[Any, Size], int]
    """Number of tokens that can be dropped, from the model and the image size in pixels; 0 if this model cannot drop any."""


class MaskUnitDropout(nn.Module):
    """Drops whole mask units of Hiera, whose tokens have the order (position in the unit, unit) after `Unroll`.

    Args:
        prob: fraction of the mask units to drop.
        unit_tokens: tokens in each mask unit.
    """

    def __init__(self, prob: float, unit_tokens: int) -> None:
        super().__init__()
        self.units = PatchDropout(prob, num_prefix_tokens=0)
        self.unit_tokens = unit_tokens

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens of the remaining units, (B, N remaining, D)."""
        batch, _, width = x_BND.shape
        x_BU = x_BND.view(batch, self.unit_tokens, -1, width).transpose(1, 2).flatten(2)
        x_BU = self.units(x_BU)
        return x_BU.view(batch, -1, self.unit_tokens, width).transpose(1, 2).flatten(1, 2)


def _prefix(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0))


def _embedded_patches(model: Any, image_size: Size) -> int:
    embed = model.patch_embed
    same = tuple(embed.img_size) == image_size
    return int(embed.num_patches) if same else math.prod(embed.dynamic_feat_size(image_size))


def _naflex_patches(model: Any, image_size: Size) -> int:
    # With mixed rotary positions, timm does not select the frequencies of the remaining tokens.
    return 0 if model.rope_is_mixed else math.prod(model.embeds.dynamic_feat_size(image_size))


def _in_mask_units(model: Any, unroll: nn.Module, prob: float) -> nn.Module:
    return nn.Sequential(unroll, MaskUnitDropout(prob, model.mu_size))


DROP_LOCATIONS: dict[type[nn.Module], DropLocation] = {
    zoo.VisionTransformer: DropLocation(
        "patch_drop", lambda model, _, prob: PatchDropout(prob, num_prefix_tokens=_prefix(model)), _embedded_patches
    ),
    # These select the rotary positions of the remaining tokens.
    zoo.Eva: DropLocation(
        "patch_drop", lambda model, _, prob: PatchDropoutWithIndices(prob, num_prefix_tokens=_prefix(model)), _embedded_patches
    ),
    zoo.NaFlexVit: DropLocation(
        "patch_drop", lambda model, _, prob: PatchDropoutWithIndices(prob, num_prefix_tokens=_prefix(model)), _naflex_patches
    ),
    # The class token is added later.
    zoo.Cait: DropLocation(
        "pos_drop",
        lambda _, pos_drop, prob: nn.Sequential(pos_drop, PatchDropout(prob, num_prefix_tokens=0)),
        _embedded_patches,
    ),
    zoo.Hiera: DropLocation(
        "unroll",
        _in_mask_units,
        lambda model, _: math.prod(model.mask_spatial_shape),
    ),
}
"""Model classes in which tokens can be dropped, with their subclasses; `register_model` adds classes.

SAM has a `patch_drop` too, but its windows need the whole grid.
"""


def token_dropping(model: nn.Module, image_size: Size) -> TokenDropping | str:
    """How the tokens of a model can be dropped, or why they cannot, as a sentence without its end."""
    location = next((DROP_LOCATIONS[kind] for kind in type(model).__mro__ if kind in DROP_LOCATIONS), None)
    tokens = location.tokens(model, image_size) if location else 0
    if location and tokens > 1:
        return TokenDropping(model, location, tokens)
    return f"{type(model).__name__} has no place to drop tokens"
