"""Units of cost that the report can switch between. Only what was counted or measured is shown; nothing is converted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from explorer.errors import InvalidInput


@dataclass(frozen=True)
class CostUnit:
    """One unit: the column of a trials table that holds it, and how its axis looks."""

    key: str
    name: str
    column: str
    axis: dict[str, Any] = field(default_factory=dict)
    """Of plotly's x axis: title and ticks."""
    factor: float = 1.0

    def amounts(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """A table's costs in this unit."""
        return table[self.column].to_numpy(float) * self.factor


def units(budgets: pd.DataFrame, price: float | None = None, *, several: bool = False) -> list[CostUnit]:
    """The units of a report.

    Args:
        budgets: rows with `budget` and `budget_amount`: where the axis of fractions has its ticks.
        price: of a device-hour, in any currency; none: money is not shown.
        several: sweeps are compared; a fraction is then of each one's own full training.

    Raises:
        InvalidInput: when the price is not above 0.
    """
    if price is not None and not price > 0:
        raise InvalidInput("price", price, "must be above 0, the price of a device-hour")
    shares = budgets[budgets.budget.str.endswith("%")].drop_duplicates("budget").sort_values("budget_amount")
    ticks = {"tickvals": list(shares.budget_amount), "ticktext": list(shares.budget), "tickformat": None}
    free = {"tickvals": None, "ticktext": None}
    share = "cost, share of " + ("each sweep's own full training" if several else "full training")
    found = [
        CostUnit("fraction", "share of full training", "cost", {"title_text": share, **(ticks if len(shares) else free)}),
        CostUnit("flops", "FLOPs", "planned_flops", {"title_text": "cost, counted FLOPs", **free, "tickformat": "~s"}),
        CostUnit(
            "seconds",
            "device-seconds, measured",
            "train_seconds",
            {"title_text": "cost, device-seconds as measured", **free, "tickformat": "~s"},
        ),
    ]
    if price is not None:
        title = f"cost, measured device-hours at {price:g}"
        axis = {"title_text": title, **free, "tickformat": "~g"}
        found.append(CostUnit("money", f"money, {price:g} a device-hour", "train_seconds", axis, price / 3600))
    return found


def seconds_at(curve: pd.DataFrame, cost: ArrayLike) -> NDArray[np.float64]:
    """Device-seconds at costs between a curve's measured budgets: straight lines between the logarithms of both."""
    ordered = curve.sort_values("cost")
    logs = np.interp(np.log(np.asarray(cost, float)), np.log(ordered.cost), np.log(ordered.train_seconds.clip(lower=1e-9)))
    return np.exp(logs)
