"""Fewer tokens in a training step: random ones are dropped, or the images are made smaller. Evaluation sees them all.

Neither way touches a parameter: at rate 1 the model is the plain timm model, attributes and hooks included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from timm.layers import to_2tuple
from torch import nn

from explorer.elastic.image_resizing import Resize, resizing
from explorer.elastic.token_dropping import Drop, Sides, dropping
from explorer.errors import InvalidInput

TokenPolicy = Literal["auto", "drop", "resize"]
_WAYS: dict[Literal["drop", "resize"], Callable[[nn.Module, Sides], Drop | Resize | str]] = {
    "drop": dropping,
    "resize": resizing,
}
"""Policy -> what does it with a model, or why nothing can."""


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


def _sides(model: Any, image_size: int | Sides | None) -> Sides:
    if image_size is None:
        published = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        image_size = getattr(getattr(model, "patch_embed", None), "img_size", None) or published[1:]
    return to_2tuple(image_size)
