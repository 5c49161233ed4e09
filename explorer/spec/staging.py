"""How a stage at reduced rates is derived from the full model."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from explorer.spec.base import Frozen

SubsetChoice = Literal["leading", "random", "importance"]
Growth = Literal["initial", "zero"]
TokenPolicy = Literal["auto", "drop", "resize"]
BlockSubset = Literal["prefix", "even"]


class Staging(Frozen):
    """How a stage at reduced rates is derived from the full model. A sweep can compare these settings."""

    subset: SubsetChoice = "leading"
    """Which heads and channels are active: the leading ones, a random subset in each stage, or the largest."""
    growth: Growth = "initial"
    """Growth initialization: the values that newly active entries start from. `initial`: the values of the model's own
    initialization; `zero`: their output columns are zero, so that the loss does not jump."""
    token_policy: TokenPolicy = "auto"
    """How the number of tokens is reduced: random tokens are dropped, or images are resized; `auto`: drop where
    the model can."""
    blocks: BlockSubset = "prefix"
    """Which blocks are active where the depth is reduced: the first ones, or evenly spaced ones."""

    @model_validator(mode="after")
    def _check(self) -> Staging:
        if self.growth == "zero" and self.subset == "random":
            raise ValueError("growth: zero needs a subset that only grows, leading or importance, not random")
        if self.growth == "zero" and self.blocks == "even":
            raise ValueError("growth: zero needs blocks that stay active, prefix, not even")
        return self
