"""Budgets: the cost allowed to a training run, a number with a unit. Units never turn into one another silently."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer

from explorer.errors import InvalidInput

Unit = Literal["fraction", "FLOPs", "device-seconds", "money"]
Device = Literal["GPU", "CPU"]
DEVICES: tuple[Device, ...] = get_args(Device)
MAX_FULL_TRAININGS = 10
"""Full trainings that a budget may cost: more is a slip of the unit."""
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
ALLOWED = "write a share of full training (25% or 0.25), FLOPs (3e17 FLOPs), time of one device (12 GPU-hours) or money ($40)"


@dataclass(frozen=True, order=True)
class Budget:
    """A cost: a fraction of full training, floating-point operations, seconds of one device, or money.

    Raises:
        InvalidInput: when the amount is not a positive, finite number.
    """

    amount: float
    unit: Unit = "fraction"
    device: Device | None = field(default=None, compare=False)
    """What the time is of, where it was said: it is then refused for the other kind."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InvalidInput("budget", str(self), "must be a finite number above 0")
        if self.unit == "fraction" and self.amount > MAX_FULL_TRAININGS:
            raise InvalidInput("budget", str(self), f"must be at most {MAX_FULL_TRAININGS:.0%} of full training")

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read `25%` or `0.25` (both: of full training), `3e17 FLOPs`, `12 GPU-hours` (or -seconds, -minutes, -days) or `$40`.

        Raises:
            InvalidInput: for anything else. A bare number above 1 is refused: it may mean per cent.
        """
        if isinstance(text, Budget):
            return text
        time_unit = "|".join(SECONDS)
        match = re.fullmatch(
            rf"\s*(\$)?\s*{NUMBER}\s*(%|flops|(gpu|cpu|device)[- ]?({time_unit})s?)?\s*", str(text), re.IGNORECASE
        )
        try:
            amount = float(match[2]) if match else math.nan
        except ValueError:
            amount = math.nan
        if match is None or math.isnan(amount) or (match[1] and match[3]):
            raise InvalidInput("budget", text, ALLOWED)
        if match[1]:
            return cls(amount, "money")
        if match[5]:
            named = [device for device in DEVICES if device == match[4].upper()]
            return cls(amount * SECONDS[match[5].lower()], "device-seconds", named[0] if named else None)
        if match[3] is None:
            if amount > 1:
                raise InvalidInput("budget", text, f"{ALLOWED}; a number above 1 needs its unit")
            return cls(amount)
        return cls(amount / 100) if match[3] == "%" else cls(amount, "FLOPs")

    @property
    def counted(self) -> bool:
        """True for units that need no measurement: shares of full training, and FLOPs."""
        return self.unit in ("fraction", "FLOPs")

    def of(self, full_training: int) -> int:
        """The budget as a whole number, rounded down, in the unit that `full_training`, the cost of full training, is in.

        FLOPs for a share or FLOPs, nanoseconds for seconds of a device.

        Raises:
            InvalidInput: for money, which has no price here, and for more than ten full trainings.
        """
        if self.unit == "money":
            raise InvalidInput("budget", str(self), "needs the price of a device-hour: --price")
        unit = {"fraction": full_training, "FLOPs": 1, "device-seconds": 1e9}[self.unit]
        cost = math.floor(self.amount * unit)
        if cost > MAX_FULL_TRAININGS * full_training:
            times = f"{cost / full_training:.4g} full trainings"
            raise InvalidInput("budget", str(self), f"must be at most {MAX_FULL_TRAININGS:.0%} of full training; it is {times}")
        return cost

    def priced(self, price: float | None) -> Budget:
        """Money as seconds of a device; other budgets as they are.

        Args:
            price: of a device-hour, in the money's currency.

        Raises:
            InvalidInput: when money has no price, or the price is not above 0.
        """
        if price is not None and not price > 0:
            raise InvalidInput("price", price, "must be above 0, the price of a device-hour")
        if self.unit != "money":
            return self
        if price is None:
            raise InvalidInput("budget", str(self), "needs the price of a device-hour: --price")
        return Budget(self.amount / price * 3600, "device-seconds")

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{self.amount * 100:.10g}%"
        if self.unit == "money":
            return f"${self.amount:.10g}"
        if self.unit == "device-seconds":
            device = self.device or "device"
            hours = self.amount >= 3600
            return f"{self.amount / 3600:.10g} {device}-hours" if hours else f"{self.amount:.10g} {device}-seconds"
        return f"{self.amount:.10g} {self.unit}"

    @property
    def slug(self) -> str:
        """The budget as part of a file name: `6.25pct`, `3e17flops`, `12gpu-hours`, `40money`."""
        if self.unit == "money":
            return f"{self.amount:.10g}money".replace("+", "")
        return str(self).replace("%", "pct").replace("+", "").replace(" ", "").lower()


BudgetField = Annotated[Budget, BeforeValidator(Budget.parse), PlainSerializer(str)]
"""A budget in a pydantic model: written as text (`25%`)."""
