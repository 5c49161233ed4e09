"""Budgets: the cost allowed to a training run, a number with a unit. Units never turn into one another silently."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from explorer.errors import InvalidInput

Unit = Literal["fraction", "FLOPs"]


@dataclass(frozen=True, order=True)
class Budget:
    """A cost: a fraction of full training, or a number of floating-point operations.

    Raises:
        InvalidInput: when the amount is not a positive, finite number.
    """

    amount: float
    unit: Unit = "fraction"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InvalidInput("budget", self.amount, "must be above 0")
        if self.unit == "fraction" and self.amount > 10:
            raise InvalidInput("budget", str(self), "must be at most 1000% of full training")

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read `25%`, `0.25` (both: of full training) or `3e17 FLOPs`.

        Raises:
            InvalidInput: for anything else. A bare number above 1 is refused: it may mean per cent.
        """
        if isinstance(text, Budget):
            return text
        match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*(%|flops)?\s*", str(text), re.IGNORECASE)
        allowed = "write a share of full training (25% or 0.25) or a number of FLOPs (3e17 FLOPs)"
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:
            amount = math.nan
        if match is None or math.isnan(amount):
            raise InvalidInput("budget", text, allowed)
        if match[2] is None:
            if amount > 1:
                raise InvalidInput("budget", text, f"{allowed}; a number above 1 needs its unit")
            return cls(amount)
        return cls(amount / 100) if match[2] == "%" else cls(amount, "FLOPs")

    def flops(self, full_training_flops: int) -> int:
        """The budget in whole FLOPs, rounded down; `full_training_flops` is the cost of full training."""
        return math.floor(self.amount * full_training_flops) if self.unit == "fraction" else math.floor(self.amount)

    def __str__(self) -> str:
        return f"{self.amount * 100:.10g}%" if self.unit == "fraction" else f"{self.amount:.10g} FLOPs"

    @property
    def slug(self) -> str:
        """The budget as part of a file name: `6.25pct`, `3e17flops`."""
        return str(self).replace("%", "pct").replace(" FLOPs", "flops").replace("+", "")
