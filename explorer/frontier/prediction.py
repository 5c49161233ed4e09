"""Accuracy at budgets that were not trained, above and between those that were, with an interval.

Nothing is predicted of other metrics: laws and coverage were measured with accuracy.

What is predicted is what a sweep would measure if it searched that budget, too: the mean test accuracy of its winner over fresh
seeds. The model, for the logit of accuracy at cost c:

    logit(c) = law(c; error, exponent, floor) + deviation(c) + error of measuring

Every law of `explorer.frontier.laws` has the same prior weight. Its parameters are drawn from wide priors, and every draw is
weighted by the likelihood of the trained budgets, which averages over parameters and laws alike: a law that fits badly has
draws of little weight. The error of measuring is that of the seeds, and at least that of the test set.

No law is exact, and winners change from budget to budget. The deviation is a random walk over log2 of the cost, beginning at
the cheapest trained budget, with an independent part at each budget. Its size is relative to the slope of the law between the
trained budgets, so that curves of any steepness are treated alike. Between trained budgets it is a bridge: the prediction
comes close to them, and its interval widens in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from explorer.errors import InvalidInput
from explorer.frontier.curve import Expected
from explorer.frontier.laws import LAWS, Array, Law
from explorer.frontier.posterior import (
    Deviation,
    LawDraws,
    MeasuredLogits,
    adapted_draws,
    effective_number,
    normalized,
    weighted_draws,
)
from explorer.frontier.trials import metric_of
from explorer.spec.binomial import LEVEL
from explorer.spec.provenance import MAX_REACH, MIN_BUDGETS

DRAWS = 4000
"""Draws from the posterior that a prediction is made of."""
FEW_EFFECTIVE_DRAWS = 1000
"""Where the first draws are worth fewer independent ones, `adapted_draws` replace them."""
MIN_EFFECTIVE_DRAWS = 500
"""Where those are worth fewer, nothing is predicted: the ends of a 95 % interval are the 12th and the 488th of 500."""
MAX_FALL = 4.0
"""Standard errors of a difference by which accuracy may fall with cost; above, no law holds."""
WINNER_ERROR = 0.05
"""Logit by which winners of two budgets may differ besides, since each is the best of few."""
PLAN_TOLERANCE = 0.05
"""Plans of one budget differ in cost by less than this fraction of it."""


def obstacle(points: pd.DataFrame) -> str | None:
    """Why no law can be fitted to these points, as a clause; `None` if laws can be. See also `predicted_or_obstacle`.

    Args:
        points: rows of `best_by_budget` of one kind, or none.
    """
    metric = metric_of(points)
    if not metric.is_fraction_of_images or metric.direction == "minimize":
        return f"the laws of error against cost are for accuracy, and the metric is {metric.label}"
    costs = points.cost.nunique() if len(points) else 0
    if costs < MIN_BUDGETS:
        return f"a prediction needs at least {MIN_BUDGETS} trained budgets, and there {'is' if costs == 1 else 'are'} {costs}"
    measured = MeasuredLogits.of(points)
    z_N, error_N = measured.logits, measured.errors
    falls_NN = (z_N[:, None] - z_N) / np.sqrt(error_N[:, None] ** 2 + error_N**2 + WINNER_ERROR**2)
    earlier, later = np.unravel_index(int(np.triu(falls_NN, 1).argmax()), falls_NN.shape)
    if falls_NN[earlier, later] > MAX_FALL:
        ordered = points.sort_values("cost").drop_duplicates("cost")
        high, low = ordered.iloc[earlier], ordered.iloc[later]
        return (
            f"the accuracy falls from {high.test_mean:.1%} at {high.budget} to {low.test_mean:.1%} at {low.budget}, which no "
            "law of error against cost allows"
        )
    return None


@dataclass(frozen=True)
class PredictedCurve:
    """The accuracy of one kind of training at any cost from the cheapest trained one to `reach`.

    D is the number of draws from the posterior, N that of trained budgets.
    """

    laws: tuple[Law, ...]
    """The candidates."""
    deviation: Deviation
    chosen: NDArray[np.int64]
    """(D,) the law of each draw, an index into `laws`."""
    draws: LawDraws
    """Equally probable draws from the posterior."""
    effective_draws: float
    """Number of independent draws that the weighted ones were worth, at least `MIN_EFFECTIVE_DRAWS`."""

    @classmethod
    def through(cls, points: pd.DataFrame, laws: Sequence[Law] = LAWS) -> PredictedCurve:
        """Fit laws to rows of `best_by_budget` of one kind; equal calls return equal numbers.

        Args:
            points: columns budget, cost, seeds, test_mean, seed_error and test_images are used.
            laws: the candidates.

        Raises:
            InvalidInput: where there is an `obstacle`, or too few of the draws from the laws fit the points.
        """
        if reason := obstacle(points):
            raise InvalidInput("budget", None, reason)
        deviation = Deviation.of(MeasuredLogits.of(points))
        for draw, enough in ((weighted_draws, FEW_EFFECTIVE_DRAWS), (adapted_draws, MIN_EFFECTIVE_DRAWS)):
            generator = np.random.default_rng(0)
            drawn = [draw(law, deviation, generator) for law in laws]
            weight = normalized(np.concatenate([log_weight_D for _, log_weight_D in drawn]))
            effective_draws = effective_number(weight)
            if effective_draws >= enough:
                break
        else:
            raise InvalidInput(
                "budget",
                None,
                "too few random draws from the laws of error against cost fit the trained budgets: they are worth "
                f"{effective_draws:.0f} independent ones, and an interval needs {MIN_EFFECTIVE_DRAWS}",
            )
        positions = (generator.uniform() + np.arange(DRAWS)) / DRAWS  # systematic resampling
        kept = np.searchsorted(np.cumsum(weight), positions).clip(max=len(weight) - 1)
        kept = generator.permutation(kept)  # the noise of a prediction is not to go with the order of the laws
        of_laws = [[getattr(draws, each.name) for draws, _ in drawn] for each in fields(LawDraws)]
        draws = LawDraws(*(np.concatenate(values)[kept] for values in of_laws))
        chosen = np.repeat(np.arange(len(drawn)), [len(log_weight_D) for _, log_weight_D in drawn])[kept]
        return cls(tuple(laws), deviation, chosen, draws, effective_draws)

    @property
    def reach(self) -> float:
        """Largest cost that can be predicted."""
        return float(self.deviation.measured.costs[-1] * MAX_REACH)

    @property
    def weights(self) -> dict[str, float]:
        """Posterior weight of each law, by its name."""
        counts = np.bincount(self.chosen, minlength=len(self.laws))
        return {law.name: float(count / len(self.chosen)) for law, count in zip(self.laws, counts, strict=True)}

    def at(self, costs: ArrayLike, runs: int | None = None) -> Expected:
        """The predicted accuracy: medians, and intervals that hold what would be measured with a probability of 95 %.

        Args:
            costs: (M,) fractions of full training.
            runs: number of fresh seeds whose mean the interval is to hold; `None` for as many as the trained budgets have.

        Raises:
            InvalidInput: for a cost below the cheapest trained one or beyond `reach`.
        """
        accuracy_DM = self.sampled(costs, runs)
        low_M, mean_M, high_M = np.quantile(accuracy_DM, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2), axis=0)
        return Expected(mean_M, low_M, high_M)

    def sampled(self, costs: ArrayLike, runs: int | None = None) -> Array:
        """Accuracies at M costs as they could be measured, (D, M); arguments as in `at`."""
        cost_M = np.atleast_1d(np.asarray(costs, float))
        self.check(cost_M)
        measured, draws = self.deviation.measured, self.draws
        runs = runs or measured.seeds
        logits_DM = np.empty((len(self.chosen), len(cost_M)))
        for number, law in enumerate(self.laws):
            of_law = self.chosen == number
            parameters = (values[of_law, None] for values in (draws.error, draws.exponent, draws.floor))
            logits_DM[of_law] = law.logit(cost_M / measured.costs[-1], *parameters)
        mean_DM, variance_DM = self.deviation.at(cost_M, draws.size, draws.pull, runs)
        logits_DM += mean_DM
        variance_DM += measured.run_variance(np.median(logits_DM, axis=0), runs)
        noise_D1 = np.random.default_rng(1).standard_normal((len(self.chosen), 1))  # one for all costs: smooth curves
        accuracy_DM: Array = expit(logits_DM + noise_D1 * np.sqrt(variance_DM))
        return accuracy_DM

    def check(self, costs: ArrayLike) -> None:
        """Refuse costs that cannot be predicted.

        Raises:
            InvalidInput: for a cost below the cheapest trained one or beyond `reach`.
        """
        smallest, largest = self.deviation.measured.costs[[0, -1]]
        for cost in np.atleast_1d(np.asarray(costs, float)):
            if not smallest * (1 - PLAN_TOLERANCE) <= cost <= self.reach * (1 + PLAN_TOLERANCE):
                raise InvalidInput(
                    "budget",
                    f"{100 * cost:.4g}%",
                    f"only {100 * smallest:.4g}% to {100 * self.reach:.4g}% of full training can be predicted: from the "
                    f"cheapest trained budget to {MAX_REACH:g} times the most expensive one, {100 * largest:.4g}%",
                )


def predicted_or_obstacle(points: pd.DataFrame) -> PredictedCurve | str:
    """The prediction from rows of `best_by_budget` of one kind, or none; or why there is no prediction, as a clause."""
    try:
        return PredictedCurve.through(points)
    except InvalidInput as error:
        return error.allowed
