"""How a stage at reduced rates is derived from the full model."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from explorer.spec.base import Settings

SubsetChoice = Literal["leading", "random", "importance"]
Growth = Literal["auto", "initial", "zero", "copy", "copy_normalized"]
COPIES: tuple[Growth, ...] = ("copy", "copy_normalized")
"""Growth initializations that copy active entries."""
PRESERVING: tuple[Growth, ...] = ("zero", "copy_normalized")
"""Growth initializations that do not change what the model computes."""
TokenPolicy = Literal["auto", "drop", "center", "resize"]
BlockSubset = Literal["prefix", "even"]


class Staging(Settings):
    """How a stage at reduced rates is derived from the full model. A sweep can compare these settings."""

    subset: SubsetChoice = "leading"
    """Which heads and channels are active: the leading ones, a random subset in each stage, or those with the largest weights
    (`importance`)."""
    growth: Growth = "auto"
    """Growth initialization: the values from which newly active entries start. `auto`: `copy_normalized` where it can be done,
    otherwise `initial`; `initial`: the values of the model's own
    initialization; `zero`: their output columns are zero, so that the loss does not jump; `copy`: copies of the active heads,
    channels and blocks, in turn, with an optimizer state of zero (the paper's growth); `copy_normalized`: the same, with output
    columns divided by the number of copies and blocks that add nothing at first, so that the loss does not jump. Pretrained
    weights are never overwritten: growth then acts as `initial`."""
    token_policy: TokenPolicy = "auto"
    """How the number of tokens is reduced. `drop`: random tokens are dropped; `center`: the tokens around the central crop of
    the patch grid are dropped, the same ones in every step (the paper's policy); `resize`: images are made smaller; `auto`:
    `drop` if the model supports it, otherwise `resize`."""
    blocks: BlockSubset = "prefix"
    """Which blocks are active when the depth is reduced: the first ones (`prefix`), or evenly spaced ones (`even`)."""

    @model_validator(mode="after")
    def _check(self) -> Staging:
        if self.growth not in ("auto", "initial") and self.subset == "random":
            raise ValueError(f"growth: {self.growth} needs a subset that only grows: leading or importance")
        if self.growth in PRESERVING and self.blocks == "even":
            raise ValueError(f"growth: {self.growth} needs blocks that stay active: prefix")
        return self
