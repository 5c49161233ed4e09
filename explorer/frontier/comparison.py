"""Staged against baseline training: a difference counts only where the 95 % intervals of the two means are apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from explorer.frontier.curve import Match, MetricCurve
from explorer.frontier.prediction import PredictedCurve
from explorer.frontier.trials import rows
from explorer.frontier.uncertainty import percentiles
from explorer.ledger import KINDS, Kind
from explorer.spec.budget import Budget

FULL_TRAINING = 0.99
"""Runs of at least this cost, a fraction of full training, count as full training: a plan may end a step below its budget."""
MAX_FULL_TRAINING = 1.01
"""Runs of more than this cost are longer trainings."""
MAX_PREDICTED_MATCH = 2.0
"""Cost up to which a predicted match is looked for, in full trainings; beyond, it counts as not reached."""
MATCH_POINTS = 200
"""Costs, evenly spaced over the logarithm, at which it is looked for."""

Verdict = Literal["ahead", "behind", "undecided"]


@dataclass(frozen=True)
class MeanScore:
    """A mean test score with its 95 % confidence interval, of which higher ones are better; NaN bounds for one seed."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class BudgetComparison:
    """The best staged and the best baseline training of one budget."""

    budget: Budget
    staged: MeanScore
    baseline: MeanScore

    @property
    def gain(self) -> float:
        """Mean test score of staged training minus that of the baseline: positive where staged training is better."""
        return self.staged.mean - self.baseline.mean

    @property
    def has_intervals(self) -> bool:
        """False if one of the two means is of a single seed."""
        return not (math.isnan(self.staged.low) or math.isnan(self.baseline.low))

    @property
    def seeds(self) -> int:
        """Number of seeds behind each of the two means, the smaller one."""
        return min(self.staged.seeds, self.baseline.seeds)

    @property
    def verdict(self) -> Verdict:
        """Whether staged training is ahead: its whole interval lies above that of the baseline.

        Both intervals being apart is a stricter condition than a 95 % interval of the difference that excludes 0. With a
        single seed there is no interval, and nothing is decided.
        """
        if self.staged.low > self.baseline.high:  # False where a bound is NaN
            return "ahead"
        return "behind" if self.staged.high < self.baseline.low else "undecided"


def compare_budgets(curves: pd.DataFrame) -> list[BudgetComparison]:
    """Compare both kinds at every budget at which both were trained, from the cheapest.

    Args:
        curves: the table that `best_by_budget` returns.
    """
    comparisons = []
    for _, at_budget in curves.sort_values("budget_amount", kind="stable").groupby("budget_amount", sort=False):
        means = {row.kind: _mean(row) for row in rows(at_budget)}
        if len(means) == 2:
            budget = Budget.parse(at_budget.budget.iloc[0])
            comparisons.append(BudgetComparison(budget, means["staged"], means["baseline"]))
    return comparisons


def _mean(row: Any) -> MeanScore:
    return MeanScore(float(row.test_mean), float(row.test_low), float(row.test_high), int(row.seeds))


@dataclass(frozen=True)
class FullTrainingMatch:
    """At what cost staged training reaches the score of full training: the baseline at 100 % of its cost."""

    target: MeanScore
    """The baseline at full training."""
    match: Match
    measured: tuple[float, float]
    """Smallest and largest cost of staged training, between which the match was looked for."""
    predicted: bool = False
    """Whether target and cost are predicted, since full training was not trained."""

    @property
    def reached(self) -> bool:
        """True if the staged curve reaches the target below the cost of full training, however uncertain."""
        return self.match.cost < FULL_TRAINING

    @property
    def certain(self) -> bool:
        """True if the whole 95 % interval of the cost lies below full training; False without an interval."""
        return self.reached and self.match.high < FULL_TRAINING


def of_full_training(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of full training: of the baseline at 100 %, not above.

    Args:
        rows: with the columns kind and cost.
    """
    return rows[(rows.kind == "baseline") & rows.cost.between(FULL_TRAINING, MAX_FULL_TRAINING)]


def match_full_training(curves: pd.DataFrame, between: dict[Kind, MetricCurve]) -> FullTrainingMatch | None:
    """The cost at which staged training matches full training; `None` if one of the two was not measured.

    Args:
        curves: the table that `best_by_budget` returns.
        between: the curve of each kind that was trained.
    """
    full = of_full_training(curves)
    if full.empty or "staged" not in between:
        return None
    target = full.sort_values("cost", kind="stable").iloc[0]
    staged = between["staged"]
    match = staged.cost_to_match(target)
    return FullTrainingMatch(_mean(target), match, (float(staged.costs[0]), float(staged.costs[-1])))


def predict_full_training_match(predicted: dict[Kind, PredictedCurve]) -> FullTrainingMatch | None:
    """The same by predictions, where full training was not trained; `None` if one kind cannot be predicted there.

    Args:
        predicted: the predicted accuracy of each kind that can be predicted.
    """
    if len(predicted) < len(KINDS) or any(curve.reach < FULL_TRAINING for curve in predicted.values()):
        return None
    if any(curve.deviation.measured.costs[0] > MAX_FULL_TRAINING for curve in predicted.values()):
        return None
    staged, baseline = predicted["staged"], predicted["baseline"]
    smallest, end = float(staged.deviation.measured.costs[0]), min(staged.reach, MAX_PREDICTED_MATCH)
    cost_M = np.geomspace(smallest, end, MATCH_POINTS)
    target_D = np.random.default_rng(2).permutation(baseline.sampled([1.0])[:, 0])  # independent of the staged draws
    reached_DM = np.maximum.accumulate(staged.sampled(cost_M), axis=1) >= target_D[:, None]
    cost_D = np.where(reached_DM.any(axis=1), cost_M[reached_DM.argmax(axis=1)], np.inf)
    low, high = percentiles(cost_D)
    mean, bound_low, bound_high = (float(values[0]) for values in baseline.at([1.0]))
    target = MeanScore(mean, bound_low, bound_high, baseline.deviation.measured.seeds)
    median = float(np.quantile(cost_D, 0.5, method="nearest"))
    return FullTrainingMatch(target, Match(median, float(low), float(high)), (smallest, end), predicted=True)
