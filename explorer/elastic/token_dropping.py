"""Fewer tokens by dropping random ones while the model trains: which timm models have a place for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.models as zoo
from timm.layers import PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn

from explorer.errors import InvalidInput

# Shapes: B batch, N tokens, U mask units, D features

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


def dropping(model: nn.Module, image_size: Sides) -> Drop | str:
    """How a model's tokens can be dropped, or why not."""
    place = next((PLACES[kind] for kind in type(model).__mro__ if kind in PLACES), None)
    tokens = place.tokens(model, image_size) if place else 0
    return Drop(model, place, tokens) if place and tokens > 1 else f"{type(model).__name__} has no place to drop tokens"
