"""Learning-rate curves over budget time: functions of cost spent / budget, ending at zero within the budget.

Decaying to zero within the budget is what makes budgets comparable (Li, Yumer, Ramanan 2020; Kaddour et
al. 2023, "No Train No Gain").
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from explorer.spec.base import Frozen


class LearningRateSchedule(Frozen):
    """The factor on the peak learning rate, as a function of budget time in [0, 1]."""

    kind: Literal["linear", "cosine", "wsd"] = "wsd"
    """linear or cosine decay after the warmup, or warmup-stable-decay (a constant with a linear cooldown), which did no worse
    than linear on one task and better on another (benchmarks/README.md)."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the budget over which the rate rises linearly."""
    cooldown: float = Field(0.2, gt=0, le=1)
    """wsd only: share of the budget over which the rate falls to zero."""

    @model_validator(mode="after")
    def _check(self) -> LearningRateSchedule:
        if self.kind == "wsd" and self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup {self.warmup} and cooldown {self.cooldown} overlap: their sum must be at most 1")
        return self

    def factor(self, time: float) -> float:
        """Factor in [0, 1] at budget time `time`; 0 at time 1 and beyond."""
        if time >= 1:
            return 0.0
        if time < self.warmup:
            return time / self.warmup
        if self.kind == "wsd":
            return min(1.0, (1 - time) / self.cooldown)
        remaining = (1 - time) / (1 - self.warmup)
        return remaining if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))

    def peak_within(self, start: float, end: float) -> tuple[float, ...]:
        """The factor of the peak, 1, where the warmup ends between two budget times; else nothing."""
        return (1.0,) if start < self.warmup < end else ()
