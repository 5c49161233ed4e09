"""Units of cost that the report can switch between. Only what was counted or measured is shown; nothing is converted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from explorer.spec.budget import Currency, check_price

FREE_TICKS: dict[str, Any] = {"tickvals": None, "ticktext": None}


@dataclass(frozen=True)
class CostUnit:
    """A unit of cost: the column of a trials table that holds it, and the appearance of its axis."""

    key: str
    name: str
    column: str
    axis: dict[str, Any] = field(default_factory=dict)
    """Settings of plotly's x axis: title and ticks."""
    factor: float = 1.0
    """Amount in this unit per amount in the column."""
    of_currency: str = ""
    """What fractions are of, if this is not FLOPs, as the end of a text."""

    def amounts(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """The costs of a table in this unit, one per row."""
        return table[self.column].to_numpy(float) * self.factor

    def text(self, amount: float) -> str:
        """An amount as text."""
        if self.key == "fraction":
            return f"{significant(100 * amount)}% of full training{self.of_currency}"
        if self.key == "flops":
            return f"{amount:.2e} FLOPs"
        if self.key == "money":
            return f"{significant(amount)} in money"
        return f"{significant(amount)} {self.name if self.of_currency else 'device-seconds'}"


def cost_units(
    budgets: pd.DataFrame, price: float | None = None, *, several: bool = False, currency: Currency = "flops"
) -> list[CostUnit]:
    """The units of a report.

    Args:
        budgets: rows with `budget`, `budget_amount` and `budget_unit`, which set the ticks of the axis of fractions.
        price: price of a device-hour, in any currency; `None` leaves out money.
        currency: currency of the sweep, which comes first: device-seconds are then those that were planned.
        several: True if several sweeps are compared; a fraction is then of each sweep's own full training.

    Raises:
        InvalidInput: when the price is not a finite number above 0.
    """
    if price is not None:
        check_price(price)
    fractions = budgets[budgets.budget_unit == "fraction"].drop_duplicates("budget").sort_values("budget_amount")
    ticks = {"tickvals": list(fractions.budget_amount), "ticktext": list(fractions.budget), "tickformat": None}
    of_what = "each sweep's own full training" if several else "full training"
    in_seconds = currency == "device_seconds"
    counted = ", in device-seconds" if in_seconds else ""
    fraction_axis = {"title_text": f"cost, fraction of {of_what}{counted}", **(ticks if len(fractions) else FREE_TICKS)}
    flops_axis = {"title_text": "cost, counted FLOPs", **FREE_TICKS, "tickformat": "~s"}
    seconds_axis = {"title_text": "cost, measured device-seconds", **FREE_TICKS, "tickformat": ",~r"}
    units = [
        CostUnit("fraction", "fraction of full training", "cost", fraction_axis),
        CostUnit("flops", "FLOPs", "planned_flops", flops_axis),
        CostUnit("seconds", "measured device-seconds", "train_seconds", seconds_axis),
    ]
    paid = "train_seconds"
    if in_seconds:
        planned_axis = {"title_text": "cost, planned device-seconds", **FREE_TICKS, "tickformat": ",~r"}
        units.insert(1, CostUnit("planned-seconds", "planned device-seconds", "planned_seconds", planned_axis))
        paid = "planned_seconds"
    if price is not None:
        money_axis = {
            "title_text": f"cost, {'planned' if in_seconds else 'measured'} device-hours at {price:g} each",
            **FREE_TICKS,
            "tickformat": "~g",
        }
        units.append(CostUnit("money", f"money, {price:g} per device-hour", paid, money_axis, price / 3600))
    if in_seconds:
        units = [replace(unit, of_currency=" in device-seconds") for unit in units]
    return units


def amounts_at(curve: pd.DataFrame, column: str, cost: ArrayLike) -> NDArray[np.float64]:
    """Costs in another unit: linear between the logarithms of both, and proportional outside of the measured budgets.

    Args:
        curve: rows with `cost` and the column.
        column: `train_seconds`, `planned_seconds` or `planned_flops`.
        cost: (N,) fractions of full training.

    Returns:
        (N,)
    """
    ordered, costs = curve.sort_values("cost"), np.asarray(cost, float)
    logs = np.interp(np.log(costs), np.log(ordered.cost), np.log(ordered[column].clip(lower=1e-9)))
    below, above = np.minimum(costs / ordered.cost.iloc[0], 1), np.maximum(costs / ordered.cost.iloc[-1], 1)
    return np.exp(logs) * below * above


def significant(amount: float, digits: int = 3) -> str:
    """Rounded to significant digits, in plain notation with thousands separators: 1,230 or 0.0123."""
    rounded = float(f"{amount:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.10g}"
