"""The frontier of a sweep as numbers: the best trials of each budget, every run, and what lies between the budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from explorer.frontier import (
    MetricCurve,
    PredictedCurve,
    best_by_budget,
    compare_budgets,
    match_full_training,
    non_dominated,
)
from explorer.frontier.break_even import BreakEven, break_even
from explorer.frontier.comparison import BudgetComparison, FullTrainingMatch, predict_full_training_match
from explorer.frontier.equal_time import TimeComparison, compare_at_equal_time, devices
from explorer.frontier.prediction import predicted_or_obstacle
from explorer.frontier.trials import better_kinds, full_training_cost, metric_of
from explorer.ledger import KINDS, Kind
from explorer.report.headline import break_even_sentence, equal_time_sentence, headline
from explorer.report.units import amounts_at
from explorer.spec.budget import Currency
from explorer.spec.metric import MetricSpec

NEXT_TO = 1.05
"""A prediction that ends at less than this multiple of the largest measured cost is not shown."""


@dataclass(frozen=True)
class Predictions:
    """What can be said of budgets that were not trained. It takes seconds, and is computed when it is first used."""

    curves: pd.DataFrame
    """The best of each kind at each budget, as `best_by_budget` returns them."""

    @cached_property
    def by_kind(self) -> dict[Kind, PredictedCurve | str]:
        """The predicted curve of each kind, or why it cannot be predicted."""
        return {kind: predicted_or_obstacle(self.curves[self.curves.kind == kind]) for kind in KINDS}


@dataclass(frozen=True)
class FrontierData:
    """Values of the metric are scores, of which the higher one is better; costs are fractions of full training."""

    curves: pd.DataFrame
    """The best of each kind at each budget: the columns of `best_by_budget`, and `on_frontier`."""
    runs: pd.DataFrame
    """Every completed run: the columns of `trials_frame`, and `dominated` (by a run of the same kind)."""
    between: dict[Kind, MetricCurve]
    """Expected score between the measured budgets, for each kind that was trained."""
    comparisons: tuple[BudgetComparison, ...]
    """Staged against baseline at every budget that both have."""
    match: FullTrainingMatch | None
    """Cost at which staged training matches full training, predicted where that was not trained; `None` if it is not known."""
    break_even: BreakEven
    """What finding out cost, and what it saves."""
    predictions: Predictions
    """Those of the curves."""

    @property
    def predicted(self) -> dict[Kind, PredictedCurve]:
        """The accuracy at budgets that were not trained, for each kind that can be predicted."""
        return {kind: curve for kind, curve in self.predictions.by_kind.items() if isinstance(curve, PredictedCurve)}

    @property
    def obstacles(self) -> dict[Kind, str]:
        """Why the other kinds cannot be predicted, as clauses."""
        return {kind: reason for kind, reason in self.predictions.by_kind.items() if isinstance(reason, str)}

    def shown_to(self, kind: Kind) -> float:
        """Cost to which a predicted kind is shown: full training, unless more was trained or that is out of reach."""
        curve = self.predicted[kind]
        return float(max(curve.deviation.measured.costs[-1], min(1.0, curve.reach)))

    @property
    def shown_budgets(self) -> pd.DataFrame:
        """The measured budgets, and full training where a prediction is shown up to it: budget, budget_amount, budget_unit."""
        measured = self.curves[["budget", "budget_amount", "budget_unit"]]
        full = pd.DataFrame([("100%", 1.0, "fraction")], columns=measured.columns)
        to_full = [self.shown_to(kind) == 1.0 > self.between[kind].costs[-1] * NEXT_TO for kind in self.predicted]
        return pd.concat([measured, full]) if any(to_full) and (measured.budget_unit == "fraction").all() else measured

    @property
    def winners(self) -> pd.DataFrame:
        """The better of staged and baseline at each budget, on validation data."""
        return better_kinds(self.curves)

    @property
    def headline(self) -> str:
        """What the sweep shows, in a sentence or two."""
        return headline(self.comparisons, self.match, self.currency, self.metric)

    @property
    def summary(self) -> str:
        """The headline, what remains of it at equal time, and what finding out cost beside what it saves."""
        sentences = (self.headline, equal_time_sentence(self.by_measured_time), break_even_sentence(self.break_even))
        return " ".join(filter(None, sentences))

    @property
    def by_measured_time(self) -> list[BudgetComparison]:
        """The comparisons of `at_equal_time` in a sweep that counts FLOPs; empty where no interval can decide.

        Budgets in seconds are compared as they are.
        """
        comparisons = [each.comparison for each in self.at_equal_time] if self.currency == "flops" else []
        return comparisons if any(comparison.has_intervals for comparison in comparisons) else []

    @cached_property
    def at_equal_time(self) -> tuple[TimeComparison, ...]:
        """Staged training at the measured time of each baseline; empty if the trials ran on several kinds of device."""
        return tuple(compare_at_equal_time(self.curves)) if self.has_one_device else ()

    @property
    def has_one_device(self) -> bool:
        """Whether all runs were trained on one kind of device, so that their times can be compared."""
        return len(devices(self.runs)) == 1

    @property
    def metric(self) -> MetricSpec:
        """The metric of the sweep."""
        return metric_of(self.runs)

    @property
    def currency(self) -> Currency:
        """The sweep's currency, in which costs are fractions of full training."""
        currency: Currency = self.runs.currency.iloc[0]
        return currency

    @property
    def full_cost(self) -> float:
        """Cost of full training in the sweep's currency: FLOPs or device-seconds."""
        return full_training_cost(self.runs)

    def costs_at(self, kind: Kind, cost: ArrayLike) -> pd.DataFrame:
        """Costs in every unit; the sweep's currency is exact, others are interpolated, proportional above what was measured.

        Args:
            kind: kind of trials.
            cost: (N,) fractions of full training.

        Returns:
            Columns cost, planned_flops, planned_seconds (NaN in a sweep that counts FLOPs) and train_seconds.
        """
        curve, costs = self.curves[self.curves.kind == kind], np.asarray(cost, float)
        in_flops = self.currency == "flops"
        return pd.DataFrame(
            {
                "cost": costs,
                "planned_flops": costs * self.full_flops if in_flops else amounts_at(curve, "planned_flops", costs),
                "planned_seconds": np.nan if in_flops else costs * self.full_cost,
                "train_seconds": amounts_at(curve, "train_seconds", costs),
            }
        )

    @property
    def full_flops(self) -> int:
        """Cost of full training in FLOPs."""
        return int(self.runs.full_flops.iloc[0])


def frontier_data(trials: pd.DataFrame, all_trials: pd.DataFrame | None = None) -> FrontierData:
    """Compute the frontier.

    Args:
        trials: the table that `trials_frame` returns, with at least one completed trial.
        all_trials: the same with those of proxies, which finding out cost, too; `None` if there are none.
    """
    paid_for = trials if all_trials is None else all_trials
    curves = best_by_budget(trials)
    curves["on_frontier"] = non_dominated(curves.cost, curves.test_mean)
    runs = trials[trials.status == "completed"].copy()
    runs["dominated"] = True
    for kind in KINDS:
        of_kind = runs.kind == kind
        runs.loc[of_kind, "dominated"] = ~non_dominated(runs.cost[of_kind], runs.test_score[of_kind])
    between = {kind: MetricCurve.through(curves[curves.kind == kind]) for kind in KINDS if (curves.kind == kind).any()}
    comparisons, match = tuple(compare_budgets(curves)), match_full_training(curves, between)
    data = FrontierData(curves, runs, between, comparisons, match, break_even(paid_for, match), Predictions(curves))
    if match is None and (predicted := predict_full_training_match(data.predicted)) is not None:
        return replace(data, match=predicted, break_even=break_even(paid_for, predicted))
    return data
