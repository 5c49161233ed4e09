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
    """Which heads and channels are active: the leading ones, a random subset in each stage, or those with the largest weights
    (`importance`)."""
    growth: Growth = "initial"
    """Growth initialization: the values from which newly active entries start. `initial`: the values of the model's own
    initialization; `zero`: their output columns are zero, so that the loss does not jump."""
    token_policy: TokenPolicy = "auto"
    """How the number of tokens is reduced. `drop`: random tokens are dropped; `resize`: images are made smaller; `auto`: `drop`
    if the model supports it, otherwise `resize`."""
    blocks: BlockSubset = "prefix"
    """Which blocks are active when the depth is reduced: the first ones (`prefix`), or evenly spaced ones (`even`)."""

    @model_validator(mode="after")
    def _check(self) -> Staging:
        if self.growth == "zero" and self.subset == "random":
            raise ValueError("growth: zero needs a subset that only grows: leading or importance")
        if self.growth == "zero" and self.blocks == "even":
            raise ValueError("growth: zero needs blocks that stay active: prefix")
        return self
