"""Learning-rate schedules over budget time (cost spent / budget), which end at zero within the budget.

Decaying to zero within the budget is what makes results at different budgets comparable (Li, Yumer and Ramanan, "Budgeted
Training", ICLR 2020; Kaddour et al., "No Train No Gain", NeurIPS 2023).
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.spec.base import Settings

Decay = Literal["linear", "cosine", "rex", "wsd"]


class LearningRateSchedule(Settings):
    """The factor on the peak learning rate, as a function of budget time in [0, 1]."""

    kind: Decay = "wsd"
    """Shape after the warmup: linear decay, cosine decay, `rex` (r / (0.5 + 0.5 r) for a remaining fraction r of the time, more
    than in linear decay; Chen et al., "REX", MLSys 2022), or `wsd` (warmup-stable-decay: constant, then a linear cooldown). In
    the benchmarks, `wsd` was as good as linear decay on one task and better on another (benchmarks/README.md)."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Fraction of the budget over which the learning rate rises linearly from zero."""
    warmup_of: Literal["budget", "full_training"] = "budget"
    """What `warmup` is a fraction of. A warmup that is a fraction of full training costs the same at every budget: with `wsd`,
    the steps of a larger budget are then those of a smaller one until the cooldown of the smaller one begins."""
    cooldown: float = Field(0.2, gt=0, le=1)
    """For `wsd` only: fraction of the budget over which the learning rate falls linearly to zero."""

    @model_validator(mode="after")
    def _check(self) -> LearningRateSchedule:
        if self.warmup_of == "budget" and self.kind == "wsd" and self.warmup + self.cooldown > 1:
            raise ValueError(f"warmup {self.warmup} and cooldown {self.cooldown} overlap: their sum must be at most 1")
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files and keys of a warmup that is a fraction of the budget stay as they were."""
        content = handler(self)
        return {name: value for name, value in content.items() if name != "warmup_of" or value != "budget"}

    def at_budget(self, share: float) -> LearningRateSchedule:
        """The same schedule at one budget, with `warmup` as a fraction of the budget.

        Args:
            share: the budget as a share of full training.
        """
        if self.warmup_of == "budget":
            return self
        warmup = min(self.warmup / share, self.longest_warmup)
        return LearningRateSchedule(kind=self.kind, warmup=warmup, cooldown=self.cooldown)

    @property
    def longest_warmup(self) -> float:
        """The largest fraction of a budget that a warmup may take: up to the cooldown for `wsd`, otherwise nearly all of it."""
        return 1 - self.cooldown if self.kind == "wsd" else math.nextafter(1, 0)

    def factor(self, time: float) -> float:
        """Factor in [0, 1] at budget time `time`; 0 from time 1 on."""
        return time / self.warmup if time < self.warmup else self.decay(time)

    def decay(self, time: float) -> float:
        """The factor after the warmup, at budget time `time`; 0 from time 1 on."""
        if time >= 1:
            return 0.0
        if self.kind == "wsd":
            return min(1.0, (1 - time) / self.cooldown)
        remaining = (1 - time) / (1 - self.warmup)
        if self.kind == "rex":
            return remaining / (0.5 + 0.5 * remaining)
        return remaining if self.kind == "linear" else 0.5 * (1 - math.cos(math.pi * remaining))

    def peak_within(self, start: float, end: float) -> tuple[float, ...]:
        """The factor at the end of the warmup, 1, if that is between two budget times; otherwise an empty tuple."""
        return (1.0,) if start < self.warmup < end else ()
