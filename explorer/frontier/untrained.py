"""A budget that a sweep did not train: which schedule to use there, and what accuracy is predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier.curve import Expected
from explorer.frontier.prediction import PredictedCurve, predicted_or_obstacle
from explorer.frontier.trials import better_kinds, full_training_cost, rows
from explorer.ledger import KINDS, Kind, SweepHeader
from explorer.spec.budget import CURRENCY_NAMES, Budget
from explorer.spec.provenance import PredictedAccuracy

SAME_COST = 1e-3
"""Relative difference of costs in different units that are the same budget."""


@dataclass(frozen=True)
class UntrainedBudget:
    """A budget that was not trained, with what can be said of it."""

    budget: Budget
    cost: float
    """The budget as a fraction of full training."""
    neighbour: pd.Series[Any]
    """The row of `best_by_budget` whose schedule to use: see `neighbour`."""
    curves: dict[Kind, PredictedCurve]
    """The predicted accuracy of each kind that can be predicted at this cost."""
    obstacles: dict[Kind, str]
    """Why the others cannot be, as clauses."""

    def expected(self, kind: Kind) -> Expected:
        """The predicted accuracy of a kind in `curves`, one value each."""
        return self.curves[kind].at([self.cost])

    @property
    def prediction(self) -> PredictedAccuracy:
        """What a schedule file says of this budget: the prediction for the kind of the neighbour's schedule."""
        return prediction_at(self.curves[self.neighbour.kind], self.budget, self.cost)


def untrained_budget(winners: pd.DataFrame, trials: pd.DataFrame, header: SweepHeader, budget: Budget) -> UntrainedBudget:
    """What a sweep says of a budget that it did not train.

    Args:
        winners: the table that `best_by_budget` returns; not empty.
        trials: the table that `trials_frame` returns.
        header: the header of the sweep.
        budget: any budget in the sweep's currency.

    Raises:
        InvalidInput: when the budget is in another currency or too far from what was trained, or nothing can be predicted.
    """
    cost = cost_of(budget, trials, header)
    chosen = neighbour(winners, cost)
    curves: dict[Kind, PredictedCurve] = {}
    obstacles: dict[Kind, str] = {}
    for kind in KINDS:
        points = winners[winners.kind == kind]
        curve = predicted_or_obstacle(points)
        if isinstance(curve, str):
            obstacles[kind] = curve
            continue
        try:
            curve.check([cost])
        except InvalidInput as error:
            obstacles[kind] = error.allowed
        else:
            curves[kind] = curve
    if chosen.kind not in curves:
        trained = ", ".join(dict.fromkeys(winners.budget))
        reason = f"not trained, and the accuracy of {chosen.kind} training cannot be predicted: {obstacles[chosen.kind]}"
        raise InvalidInput("budget", str(budget), f"{reason}; the sweep trained {trained}")
    return UntrainedBudget(budget, cost, chosen, curves, obstacles)


def measured_at(winners: pd.DataFrame, trials: pd.DataFrame, header: SweepHeader, budget: Budget) -> pd.DataFrame:
    """The winners at a budget; empty if it was not trained.

    A budget in another unit than the sweep's is a trained one if both cost the same to one part in 1,000: of a full training of
    1.2 CPU-hours, 0.3 CPU-hours are 25 %.

    Args:
        winners: the table that `best_by_budget` returns; not empty.
        trials: the table that `trials_frame` returns.
        header: the header of the sweep.
        budget: any budget in the sweep's currency.

    Raises:
        InvalidInput: when the budget is in another currency, or is time of another kind of device.
    """
    resources = header.space.resources
    on = resources.device_kind
    if header.space.currency == "device_seconds" and budget.device not in (None, on):
        raise InvalidInput("budget", str(budget), f"the sweep counts time of {on}s (resources.gpus: {resources.gpus:g})")
    trained = {row.budget: Budget(row.budget_amount, row.budget_unit) for row in rows(winners)}
    same = {text for text, each in trained.items() if each.is_same(budget)}
    if not same and budget.unit not in {each.unit for each in trained.values()}:
        cost = cost_of(budget, trials, header)
        same = {text for text, each in trained.items() if math.isclose(cost_of(each, trials, header), cost, rel_tol=SAME_COST)}
    return winners[winners.budget.isin(same)]


def neighbour(winners: pd.DataFrame, cost: float) -> pd.Series[Any]:
    """The winner whose schedule to use at a cost between or above the trained ones.

    That of the next more expensive trained budget, or of the most expensive one; staged or baseline, whichever is better on
    validation data. On the recorded results of benchmarks/search, winners of a more expensive budget lose less at a cheaper
    one than the reverse.

    Args:
        winners: the table that `best_by_budget` returns; not empty.
        cost: a fraction of full training.
    """
    best = better_kinds(winners).sort_values("cost")
    return best.iloc[min(int(np.searchsorted(best.cost.to_numpy(float), cost)), len(best) - 1)]


def cost_of(budget: Budget, trials: pd.DataFrame, header: SweepHeader) -> float:
    """A budget as a fraction of full training.

    Raises:
        InvalidInput: when it is in another currency than the sweep's: nothing is converted silently.
    """
    if budget.unit == "fraction":
        return budget.amount
    currency = header.space.currency
    if budget.unit == "GMACs-epochs" or budget.currency(currency) != currency:
        raise InvalidInput("budget", str(budget), f"must be a share of full training or in {CURRENCY_NAMES[currency]}")
    full = full_training_cost(trials) * (1 if currency == "flops" else 1e9)  # budgets are counted in nanoseconds
    return budget.priced(header.space.price).of(int(full)) / full


def prediction_at(curve: PredictedCurve, budget: Budget, cost: float) -> PredictedAccuracy:
    """The prediction for a budget as a schedule file keeps it."""
    mean, low, high = (float(values[0]) for values in curve.at([cost]))
    _, run_low, run_high = (float(values[0]) for values in curve.at([cost], runs=1))
    return PredictedAccuracy(
        budget=budget,
        test=mean,
        interval=(low, high),
        run_interval=(run_low, run_high),
        trained_budgets=len(curve.deviation.measured.costs),
    )
