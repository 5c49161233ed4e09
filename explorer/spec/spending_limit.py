"""Spending limits of sweeps: how much all trials of a sweep may cost together, a number with a unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, PlainSerializer

from explorer.errors import InvalidInput
from explorer.spec.budget import CURRENCY_NAMES, NUMBER_PATTERN, Budget, Currency, Device, Unit

FIELD = "search.spend"
ALLOWED = "write full trainings (3 trainings), FLOPs (2e18 FLOPs), time of one device (40 GPU-hours) or money ($40)"
LimitUnit = Literal["trainings", "FLOPs", "device-seconds", "money"]
FITS: dict[Currency, tuple[LimitUnit, ...]] = {
    "flops": ("trainings", "FLOPs"),
    "device_seconds": ("trainings", "device-seconds", "money"),
}
"""Units of a limit that a sweep in each currency can count."""
OF_BUDGETS: dict[Unit, LimitUnit] = {"FLOPs": "FLOPs", "device-seconds": "device-seconds", "money": "money"}


@dataclass(frozen=True)
class SpendingLimit:
    """What a sweep may cost: full trainings, floating-point operations, seconds of one device, or money.

    Raises:
        InvalidInput: when the amount is not a positive, finite number.
    """

    amount: float
    unit: LimitUnit = "trainings"
    device: Device | None = field(default=None, compare=False)
    """Kind of the device whose time it is, if it was given: such a limit is refused for the other kind."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InvalidInput(FIELD, str(self), "must be a finite number above 0")

    @classmethod
    def parse(cls, text: str | float | SpendingLimit) -> SpendingLimit:
        """Parse `3 trainings`, `3 full trainings`, `2e18 FLOPs`, `40 GPU-hours` or `$40`.

        Raises:
            InvalidInput: for anything else. A bare number is refused, and so is a percentage: neither says of what.
        """
        if isinstance(text, SpendingLimit):
            return text
        match = re.fullmatch(rf"\s*{NUMBER_PATTERN}\s*(?:full[- ]?)?trainings?\s*", str(text), re.IGNORECASE)
        try:
            if match:
                return cls(float(match[1]))
            budget = Budget.parse(text)
        except ValueError:
            raise InvalidInput(FIELD, text, ALLOWED) from None
        if budget.unit not in OF_BUDGETS:
            raise InvalidInput(FIELD, text, ALLOWED)
        return cls(budget.amount, OF_BUDGETS[budget.unit], budget.device)

    def check_fits(self, currency: Currency, price: float | None) -> None:
        """Check that a sweep can count this limit without converting one currency into another.

        Args:
            currency: what the sweep counts cost in.
            price: price of a device-hour; `None` if there is none.

        Raises:
            InvalidInput: when it cannot.
        """
        if self.unit not in FITS[currency]:
            other = next(name for name, units in FITS.items() if self.unit in units)
            allowed = "FLOPs" if currency == "flops" else "GPU-hours or money"
            raise InvalidInput(
                FIELD,
                str(self),
                f"the sweep counts {CURRENCY_NAMES[currency]} (currency: {currency}): give the limit in full trainings or "
                f"{allowed}, or set currency: {other}",
            )
        if self.unit == "money" and price is None:
            raise InvalidInput(FIELD, str(self), "needs the price of a device-hour: set price")

    @property
    def needs_full_training(self) -> bool:
        """Whether the cost of full training must be known to express the limit in full trainings."""
        return self.unit != "trainings"

    def full_trainings(self, full_training: float, currency: Currency, price: float | None = None) -> float:
        """The limit in full trainings.

        Args:
            full_training: cost of full training, in FLOPs or device-seconds as the currency says.
            currency: what the sweep counts cost in.
            price: price of a device-hour.

        Raises:
            InvalidInput: when the limit does not fit the currency.
        """
        self.check_fits(currency, price)
        if self.unit == "trainings":
            return self.amount
        if self.unit == "money":
            assert price is not None
            return self.amount / price * 3600 / full_training
        return self.amount / full_training

    def text(self, full_trainings: float, limit: float) -> str:
        """An amount of full trainings in the unit of this limit.

        Args:
            full_trainings: the amount.
            limit: this limit in full trainings.
        """
        return (
            str(SpendingLimit(max(full_trainings / limit * self.amount, 1e-12), self.unit, self.device))
            if full_trainings > 0
            else "0"
        )

    def spent_text(self, spent: float, limit: float) -> str:
        """What is spent and what is left of this limit: `0.96 of 1.5 full trainings spent, 0.54 left`.

        Args:
            spent: what is spent, in full trainings.
            limit: this limit in full trainings.
        """
        scale = self.amount / limit / (3600 if self.unit == "device-seconds" and self.amount >= 3600 else 1)
        done, left = spent * scale, max(0.0, limit - spent) * scale
        sign = "$" if self.unit == "money" else ""
        return f"{sign}{done:.3g} of {self} spent, {sign}{left:.3g} left"

    def __str__(self) -> str:
        if self.unit == "trainings":
            return f"{self.amount:.4g} full training{'' if self.amount == 1 else 's'}"
        if self.unit == "money":
            return f"${self.amount:.4g}"
        if self.unit == "device-seconds":
            kind = self.device or "device"
            return f"{self.amount / 3600:.4g} {kind}-hours" if self.amount >= 3600 else f"{self.amount:.4g} {kind}-seconds"
        return f"{self.amount:.4g} FLOPs"

    @property
    def exact(self) -> str:
        """The limit as text that parses to the same limit, for files."""
        if self.unit == "money":
            return f"${self.amount!r}"
        unit = self.unit if self.device is None else self.unit.replace("device", self.device)
        return f"{self.amount!r} {unit}"


def _parsed(text: str | float | SpendingLimit) -> SpendingLimit:
    try:
        return SpendingLimit.parse(text)
    except InvalidInput as error:
        raise ValueError(error.allowed) from None  # pydantic knows the field and the value


SpendingLimitField = Annotated[SpendingLimit, BeforeValidator(_parsed), PlainSerializer(lambda limit: limit.exact)]
"""A spending limit in a pydantic model, written as text (`3 trainings`)."""
