"""Budgets: the cost allowed to a training run, a number with a unit. No unit is ever converted into another silently."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer

from explorer.errors import InvalidInput

Unit = Literal["fraction", "FLOPs", "GMACs-epochs", "device-seconds", "money"]
Currency = Literal["flops", "device_seconds"]
"""What cost is counted in: floating-point operations, or seconds of one device by a table of measured step times."""
CURRENCIES: tuple[Currency, ...] = get_args(Currency)
CURRENCY_NAMES: dict[Currency, str] = {"flops": "FLOPs", "device_seconds": "device-seconds"}
"""The currencies as text."""
Device = Literal["GPU", "CPU"]
DEVICES: tuple[Device, ...] = get_args(Device)
MAX_FULL_TRAININGS = 10
"""Largest budget in full trainings; more is most likely a mistake in the unit."""
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
NUMBER_PATTERN = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"
ALLOWED = (
    "write a fraction of full training (25% or 0.25), FLOPs (3e17 FLOPs), forward multiply-adds of an image times epochs "
    "(343.7 GMACs-epochs), time of one device (12 GPU-hours) or money ($40)"
)
SAME = 1e-9
"""Relative difference of amounts that are the same: the text of a budget has ten digits."""
GMAC = 10**9
"""Multiply-adds in a GMAC."""


@dataclass(frozen=True)
class Budget:
    """A cost: a fraction of full training, floating-point operations, seconds of one device, or money.

    GMACs-epochs are the unit of "Budgeted Training for Vision Transformer" (ICLR 2023), which prints it as GFLOPs: billions of
    multiply-adds of the forward pass of one image, times epochs. It counts neither the backward pass nor the images of an
    epoch, so 300 epochs of DeiT-S are 1382 GMACs-epochs on any data set.

    Budgets of the same unit can be ordered; ordering budgets of different units raises `TypeError`.

    Raises:
        InvalidInput: when the amount is not a positive, finite number, or is more than ten full trainings.
    """

    amount: float
    unit: Unit = "fraction"
    device: Device | None = field(default=None, compare=False)
    """Kind of the device whose time it is, if it was given: such a budget is refused for the other kind."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InvalidInput("budget", str(self), "must be a finite number above 0")
        if self.unit == "fraction" and self.amount > MAX_FULL_TRAININGS:
            raise InvalidInput("budget", str(self), f"must be at most {MAX_FULL_TRAININGS:.0%} of full training")

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Parse `25%` or `0.25` (a fraction of full training), `3e17 FLOPs`, `343.7 GMACs-epochs`, `12 GPU-hours` or `$40`.

        Times may be in seconds, minutes, hours or days of a GPU, a CPU or a device.

        Raises:
            InvalidInput: for anything else. A bare number above 1 is refused, since it may mean percent.
        """
        if isinstance(text, Budget):
            return text
        time_unit = "|".join(SECONDS)
        units = rf"%|flops|gmacs?[- ]?epochs?|(gpu|cpu|device)[- ]?({time_unit})s?"
        match = re.fullmatch(rf"\s*(\$)?\s*{NUMBER_PATTERN}\s*({units})?\s*", str(text), re.IGNORECASE)
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
        if match[3] == "%":
            return cls(amount / 100)
        return cls(amount, "FLOPs" if match[3].lower() == "flops" else "GMACs-epochs")

    def __lt__(self, other: Budget) -> bool:
        return self.amount < self._amount_of(other)

    def __le__(self, other: Budget) -> bool:
        return self.amount <= self._amount_of(other)

    def __gt__(self, other: Budget) -> bool:
        return self.amount > self._amount_of(other)

    def __ge__(self, other: Budget) -> bool:
        return self.amount >= self._amount_of(other)

    def _amount_of(self, other: Budget) -> float:
        """The amount of another budget, in the same unit."""
        if not isinstance(other, Budget):
            raise TypeError(f"cannot compare the budget {self} with {other!r}, which is not a budget")
        if other.unit != self.unit:
            raise TypeError(f"cannot compare budgets of different units: {self} ({self.unit}) and {other} ({other.unit})")
        return other.amount

    def is_same(self, other: Budget) -> bool:
        """Whether another budget is the same amount, whichever device it names, apart from the rounding of their texts."""
        return self.unit == other.unit and math.isclose(self.amount, other.amount, rel_tol=SAME)

    @property
    def counted(self) -> bool:
        """True for units that need no measurement: fractions of full training, FLOPs and GMACs-epochs."""
        return self.unit in ("fraction", "FLOPs", "GMACs-epochs")

    def currency(self, of_shares: Currency = "flops") -> Currency:
        """The currency that the budget is counted in.

        Args:
            of_shares: currency of shares of full training, which do not name one.
        """
        if self.unit == "fraction":
            return of_shares
        return "device_seconds" if self.unit in ("device-seconds", "money") else "flops"

    def of(self, full_training: int, train_images: int | None = None) -> int:
        """The budget as a whole number, rounded down: FLOPs, nanoseconds for a budget in device-seconds, or multiply-adds of
        forward passes for one in GMACs-epochs.

        Args:
            full_training: cost of full training in the same unit.
            train_images: images in one epoch, which GMACs-epochs need.

        Raises:
            InvalidInput: for money, which has no price here, for GMACs-epochs without the number of images, and for more than
                ten full trainings.
        """
        if self.unit == "money":
            raise InvalidInput("budget", str(self), "needs the price of a device-hour: --price")
        if self.unit == "GMACs-epochs" and train_images is None:
            raise InvalidInput("budget", str(self), "needs the number of images in an epoch, which is not known here")
        of_epochs = GMAC * (train_images or 1)
        unit = {"fraction": full_training, "FLOPs": 1, "device-seconds": 1e9, "GMACs-epochs": of_epochs}[self.unit]
        cost = math.floor(self.amount * unit)
        if cost > MAX_FULL_TRAININGS * full_training:
            times = f"{cost / full_training:.4g} full trainings"
            raise InvalidInput("budget", str(self), f"must be at most {MAX_FULL_TRAININGS:.0%} of full training; it is {times}")
        return cost

    def exactly(self, full_training: int, train_images: int | None = None) -> Fraction:
        """The budget as `of` gives it, before it is rounded down; a share of full training is taken to twelve digits.

        Equal parts of two budgets, a tenth of 10 % and a fifth of 5 %, are then equal numbers.
        """
        self.of(full_training, train_images)
        if self.unit == "fraction":
            return self.exact_amount * full_training
        return self.exact_amount * {"FLOPs": 1, "device-seconds": 10**9}.get(self.unit, GMAC * (train_images or 1))

    @property
    def exact_amount(self) -> Fraction:
        """The amount as a rational number; a share of full training is taken to twelve digits."""
        return Fraction(f"{self.amount:.12g}") if self.unit == "fraction" else Fraction(self.amount)

    def priced(self, price: float | None) -> Budget:
        """Convert money into device-seconds; budgets in other units are returned unchanged.

        Args:
            price: price of a device-hour, in the currency of the money.

        Raises:
            InvalidInput: when there is no price for money, or the price is not above 0.
        """
        if price is not None:
            check_price(price)
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


def check_price(price: float) -> None:
    """Check the price of a device-hour.

    Raises:
        InvalidInput: when it is not a finite number above 0.
    """
    if not (math.isfinite(price) and price > 0):
        raise InvalidInput("price", price, "must be a finite number above 0, the price of a device-hour")


def _as_written(text: str | float | Budget) -> Budget:
    """A budget as its text says it, so that it is the same one after it was written and read: text has ten digits."""
    return Budget.parse(str(Budget.parse(text)))


BudgetField = Annotated[Budget, BeforeValidator(_as_written), PlainSerializer(str)]
"""A budget in a pydantic model, written as text (`25%`)."""
