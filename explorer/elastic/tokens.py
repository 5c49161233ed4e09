"""Fewer tokens in a training step: tokens are dropped at random or around the center, or images are resized.

Evaluation always uses all tokens.

No policy changes a parameter. At rate 1 the model is the original timm model, including attributes and hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from timm.layers import to_2tuple
from torch import nn

from explorer.elastic.grid_cropping import CHANNELS_LAST, grid_cropping
from explorer.elastic.image_resizing import ImageResizing, image_resizing
from explorer.elastic.token_dropping import Size, TokenDropping, central_cropping, token_dropping
from explorer.errors import InvalidInput
from explorer.spec.staging import TokenPolicy


def _cropping(model: nn.Module, image_size: Size) -> TokenDropping | ImageResizing | str:
    """How only the central tokens can be kept: those of a plain grid, or of a pyramid's first level."""
    pyramid = isinstance(model, tuple(CHANNELS_LAST))
    return grid_cropping(model, image_size) if pyramid else central_cropping(model, image_size)


_POLICIES: dict[Literal["drop", "center", "resize"], Callable[[nn.Module, Size], TokenDropping | ImageResizing | str]] = {
    "drop": token_dropping,
    "center": _cropping,
    "resize": image_resizing,
}
"""For each policy, the function that gives its implementation for a model, or the reason why there is none."""


def token_policies(model: nn.Module, image_size: int | Size | None = None) -> tuple[Literal["drop", "center", "resize"], ...]:
    """The policies by which the number of tokens of a model can be reduced.

    Args:
        model: a timm model.
        image_size: size of its full images, one side or height and width in pixels; `None` for the size that the model was
            built for.
    """
    size = full_image_size(model, image_size)
    return tuple(policy for policy, implementation in _POLICIES.items() if not isinstance(implementation(model, size), str))


def token_reduction(
    model: nn.Module, policy: TokenPolicy = "auto", image_size: int | Size | None = None
) -> TokenDropping | ImageResizing | NoTokenReduction:
    """The implementation of a policy for a model.

    Args:
        model: a timm model whose rates have not been changed.
        policy: `auto` drops random tokens if the model can, else it resizes images.
        image_size: see `token_policies`.
    """
    size = full_image_size(model, image_size)
    outcomes = {name: implementation(model, size) for name, implementation in _POLICIES.items()}
    possible = [name for name, outcome in outcomes.items() if not isinstance(outcome, str)]
    usual = next((name for name in possible if name != "center"), None)
    chosen = usual if policy == "auto" else policy
    if chosen in possible:
        return cast(TokenDropping | ImageResizing, outcomes[chosen])
    if policy == "auto":
        return NoTokenReduction(None, f"must stay at 1: {outcomes['drop']}, and {outcomes['resize']}")
    advice = f"use {usual}" if usual else "keep rates.tokens at 1"
    return NoTokenReduction(policy, f"{outcomes[policy]}; {advice}")


@dataclass(frozen=True)
class NoTokenReduction:
    """The number of tokens cannot be reduced: only rate 1 is possible."""

    policy: TokenPolicy | None
    """The policy that the model does not allow; `None` if it allows none."""
    reason: str
    """The end of the error message."""
    smallest = 1.0

    def realise(self, rate: float) -> float:
        """1.

        Raises:
            InvalidInput: at any other rate.
        """
        if rate != 1:
            field, value = ("staging.token_policy", self.policy) if self.policy else ("rates.tokens", rate)
            raise InvalidInput(field, value, self.reason)
        return 1.0

    def set(self, rate: float) -> None:
        """Change nothing.

        Raises:
            InvalidInput: at any rate other than 1.
        """
        self.realise(rate)


def full_image_size(model: Any, image_size: int | Size | None = None) -> Size:
    """Height and width of the full images of a model in pixels, given or else those that the model was built for."""
    if image_size is None:
        published = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        image_size = getattr(getattr(model, "patch_embed", None), "img_size", None) or published[1:]
    return to_2tuple(image_size)
