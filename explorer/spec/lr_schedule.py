"""Learning-rate schedules over budget time (cost spent / budget), which end at zero within the budget.

Decaying to zero within the budget is what makes results at different budgets comparable (Li, Yumer and Ramanan, "Budgeted
Training", ICLR 2020; Kaddour et al., "No Train No Gain", NeurIPS 2023).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from explorer.spec.base import Frozen

Decay = Literal["linear", "cosine", "rex", "wsd"]


class LearningRateSchedule(Frozen):
    """The factor on the peak learning rate, as a function of budget time in [0, 1]."""

    kind: Decay = "wsd"
    """Shape after the warmup: linear decay, cosine decay, `rex` (r / (0.5 + 0.5 r) for a remaining fraction r of the time, more
    than in linear decay; Chen et al., "REX", MLSys 2022), or `wsd` (warmup-stable-decay: constant, then a linear cooldown). In
    the benchmarks, `wsd` was as good as linear decay on one task and better on another (benchmarks/README.md)."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Fraction of the budget over which the learning rate rises linearly from zero."""
    cooldown: float = Field(0.2, gt=0, le=1)
    """For `wsd` only: fraction of the budget over which the learning rate falls linearly to zero."""

    @model_validator(mode="after")
    def _check(self) -> LearningRateSchedule:
        if self.kind == "wsd" and self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup {self.warmup} and cooldown {self.cooldown} overlap: their sum must be at most 1")
        return self

    def factor(self, time: float) -> float:
        """Factor in [0, 1] at budget time `time`; 0 from time 1 on."""
        if time >= 1:
            return 0.0
        if time < self.warmup:
            return time / self.warmup
        if self.kind == "wsd":
            return min(1.0, (1 - time) / self.cooldown)
        remaining = (1 - time) / (1 - self.warmup)
        if self.kind == "rex":
            return remaining / (0.5 + 0.5 * remaining)
        return remaining if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))

    def peak_within(self, start: float, end: float) -> tuple[float, ...]:
        """The factor at the end of the warmup, 1, if that is between two budget times; otherwise an empty tuple."""
        return (1.0,) if start < self.warmup < end else ()
