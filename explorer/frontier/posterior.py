"""The laws' parameters, and the deviation from every law, given the trained budgets of a sweep: draws with weights.

Suffixes of arrays: D draws, N trained budgets, M costs at which is predicted. The priors are stated here;
`python benchmarks/prediction.py --table` measures what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit, ndtr

from explorer.frontier.laws import SMALLEST_ERROR, Array, Law
from explorer.frontier.uncertainty import test_set_error

EXPONENT = (0.8, 0.6)
"""Median, and standard deviation of the logarithm, of the log-normal prior of exponents: 95 % lie between .25 and 2.6."""
DEVIATION = (0.3, 0.5)
"""The same for the size of the deviation: its standard deviation over one doubling of cost, over the logit's rise there."""
INDEPENDENT = 0.5
"""Standard deviation of the deviation's independent part at each budget, over that of one doubling."""
UNREPEATED = 0.75
"""Standard deviation of a single run on the same scale, where no repeats tell how much runs differ."""
MIN_RISE = 0.02
"""Rise of the logit per doubling of cost that deviations are relative to, at least: where a curve is flat."""
MIN_ERROR = 0.01
"""Standard error of a measured logit, at least, if neither seeds nor test images give one."""
DRAWS_OF_A_LAW = 4000
"""Draws of each law's parameters: half from the prior, half from where those had weight."""
ROUNDS = 12
"""Times that `adapted_draws` move to where the draws so far had weight."""
MIN_ADAPTED_FROM = 100
"""Effective draws whose mean and covariance the next ones are drawn around, at least: fewer would narrow them to a point."""
MAX_SIGMAS = 5
"""Draws are cut here: powers stay finite."""


@dataclass(frozen=True)
class MeasuredLogits:
    """Trained budgets on the scale of the laws."""

    costs: Array
    """(N,) increasing."""
    logits: Array
    """(N,) of mean test accuracies."""
    errors: Array
    """(N,) standard errors of the logits."""
    seeds: int
    """Median number of runs behind the means."""
    run_error: float
    """Standard deviation of the logit of a single run; NaN where no budget has two."""
    test_images: float
    """Number of test images; NaN if unknown."""

    @classmethod
    def of(cls, points: pd.DataFrame) -> MeasuredLogits:
        """From rows of `best_by_budget` of one kind. A mean of one seed gets the error that the repeated ones have."""
        ordered = points.sort_values("cost").drop_duplicates("cost")
        seeds_N, images_N = ordered.seeds.to_numpy(float), ordered.test_images.to_numpy(float)
        mean_N = ordered.test_mean.to_numpy(float)
        p_N = inner_accuracy(mean_N, images_N)
        slope_N = p_N * (1 - p_N)  # of accuracy over logit
        seed_N = ordered.seed_error.to_numpy(float) / slope_N
        repeated = seeds_N > 1
        run_error = float(np.sqrt(np.mean(seed_N[repeated] ** 2 * seeds_N[repeated]))) if repeated.any() else np.nan
        seed_N = np.where(repeated, seed_N, np.nan_to_num(run_error))
        errors_N = np.maximum(np.maximum(seed_N, test_set_error(mean_N, images_N) / slope_N), MIN_ERROR)
        return cls(ordered.cost.to_numpy(float), logit(p_N), errors_N, int(np.median(seeds_N)), run_error, float(images_N[0]))

    @property
    def doublings(self) -> Array:
        """(N,) log2 of the costs over the smallest."""
        return np.asarray(np.log2(self.costs / self.costs[0]), float)

    def independent(self, runs: int = 1) -> float:
        """Variance of the deviation's independent part for a mean of a number of runs, over that of one doubling."""
        return INDEPENDENT**2 + (UNREPEATED**2 / runs if np.isnan(self.run_error) else 0.0)

    def run_variance(self, logits_M: Array, runs: int) -> Array:
        """(M,) variance of the logit of a mean over a number of runs; the error of the test set is its floor."""
        mean_M, images = expit(logits_M), self.test_images
        p_M = inner_accuracy(mean_M, images)
        floor_M = test_set_error(mean_M, np.full(len(mean_M), images)) / (p_M * (1 - p_M))
        return np.maximum(np.nan_to_num(self.run_error) ** 2 / runs, floor_M**2)


@dataclass(frozen=True)
class Deviation:
    """A random walk over log2 of the cost with an independent part at each budget, given what was measured at some of them.

    With s the size of the deviation, the logits measured at the trained budgets have the covariance
    s**2 * (min(doublings) + independent * I) + diag(errors**2). In the coordinates that `whitening` leads to, it is diagonal
    for every s: 1 + s**2 * eigenvalues.
    """

    measured: MeasuredLogits
    eigenvalues: Array
    """(N,)"""
    whitening: Array
    """(N, N)"""

    @classmethod
    def of(cls, measured: MeasuredLogits) -> Deviation:
        """Diagonalize the covariance once for all draws."""
        doublings_N, inverse_N = measured.doublings, 1 / measured.errors
        relative_NN = np.minimum(doublings_N[:, None], doublings_N) + measured.independent() * np.eye(len(doublings_N))
        eigenvalues_N, vectors_NN = np.linalg.eigh(inverse_N[:, None] * relative_NN * inverse_N)
        return cls(measured, np.maximum(eigenvalues_N, 0), vectors_NN.T * inverse_N)

    def log_likelihood(self, residual_DN: Array, size_D: Array) -> tuple[Array, Array]:
        """Of residuals from a law, (D,), but for a constant; and the inverse covariance times the residuals, (D, N)."""
        white_DN, variance_DN = residual_DN @ self.whitening.T, 1 + size_D[:, None] ** 2 * self.eigenvalues
        log_likelihood_D = -0.5 * (white_DN**2 / variance_DN + np.log(variance_DN)).sum(axis=1)
        return log_likelihood_D, (white_DN / variance_DN) @ self.whitening

    def at(self, cost_M: Array, size_D: Array, pull_DN: Array, runs: int) -> tuple[Array, Array]:
        """Mean and variance of the deviation at costs, (D, M) each, given the residuals, by way of `pull_DN`."""
        doublings_M = np.log2(np.maximum(cost_M / self.measured.costs[0], 1))
        shared_NM = np.minimum(self.measured.doublings[:, None], doublings_M)
        squared_D1 = size_D[:, None] ** 2
        known_DM = (1 / (1 + squared_D1 * self.eigenvalues)) @ (self.whitening @ shared_NM) ** 2
        variance_DM = squared_D1 * (doublings_M + self.measured.independent(runs)) - squared_D1**2 * known_DM
        return squared_D1 * (pull_DN @ shared_NM), np.maximum(variance_DM, 0)


@dataclass(frozen=True)
class LawDraws:
    """Draws of one law's parameters; (D,) unless stated."""

    error: Array
    """Error at the largest trained cost, by the law."""
    exponent: Array
    floor: Array
    size: Array
    """Standard deviation of the deviation over one doubling of cost."""
    pull: Array
    """(D, N) what each trained budget says of the deviation."""
    log_density: Array
    """Logarithm of prior times likelihood."""

    @classmethod
    def at(cls, law: Law, drawn_D4: Array, deviation: Deviation) -> LawDraws:
        """From four coordinates: error at the largest cost, exponent, size of the deviation, and floor.

        The prior is standard normal in all but the first, in which it is flat.
        """
        measured = deviation.measured
        doublings, cut_D4 = measured.doublings[-1], drawn_D4.clip(-MAX_SIGMAS, MAX_SIGMAS)
        rise = max((measured.logits[-1] - measured.logits[0]) / doublings, MIN_RISE)
        spread = 2 * np.hypot(measured.errors[-1], DEVIATION[0] * rise)
        error_D = expit(-measured.logits[-1] - spread * drawn_D4[:, 0]).clip(SMALLEST_ERROR, 1 - SMALLEST_ERROR)
        exponent_D = EXPONENT[0] * np.exp(EXPONENT[1] * cut_D4[:, 1])
        floor_D = error_D * ndtr(cut_D4[:, 3]) * law.has_floor
        logits_DN = law.logit(measured.costs / measured.costs[-1], error_D[:, None], exponent_D[:, None], floor_D[:, None])
        rise_D = np.maximum((logits_DN[:, -1] - logits_DN[:, 0]) / doublings, MIN_RISE)
        size_D = DEVIATION[0] * np.exp(DEVIATION[1] * cut_D4[:, 2]) * rise_D
        log_likelihood_D, pull_DN = deviation.log_likelihood(measured.logits - logits_DN, size_D)
        log_density_D = log_likelihood_D - (drawn_D4[:, 1:] ** 2).sum(axis=1) / 2
        return cls(error_D, exponent_D, floor_D, size_D, pull_DN, log_density_D)


def weighted_draws(law: Law, deviation: Deviation, generator: np.random.Generator) -> tuple[LawDraws, Array]:
    """Draws of a law's parameters, and the logarithms of their weights; weights of several laws compare.

    Adaptive importance sampling: half of the draws are from a standard normal, half from a t distribution around where those
    had weight; each is weighted by its density over that of the mixture.
    """
    first_D4 = generator.standard_normal((DRAWS_OF_A_LAW // 2, 4))
    log_weight_D = LawDraws.at(law, first_D4, deviation).log_density + (first_D4**2).sum(axis=1) / 2
    near = _around(first_D4, log_weight_D, generator)
    drawn_D4 = np.concatenate((first_D4, near.rvs(DRAWS_OF_A_LAW // 2)))
    draws = LawDraws.at(law, drawn_D4, deviation)
    return draws, draws.log_density - np.log(stats.multivariate_normal(np.zeros(4)).pdf(drawn_D4) + near.pdf(drawn_D4))


def adapted_draws(law: Law, deviation: Deviation, generator: np.random.Generator) -> tuple[LawDraws, Array]:
    """The same in `ROUNDS` rounds, for trained budgets that the prior hardly expects: where few of the first draws have weight.

    Adaptive multiple importance sampling (Cornuet, Marin, Mira and Robert 2012): each round draws from a t distribution around
    where all draws so far had weight, and all are weighted by their density over that of the mixture of all rounds. While too
    few of them have weight, the next round is placed by a root of the weights.
    """
    count, prior = DRAWS_OF_A_LAW // 2, stats.multivariate_normal(np.zeros(4))
    drawn_D4, proposals = generator.standard_normal((count, 4)), [prior]
    proposed_D = prior.pdf(drawn_D4)
    for _ in range(ROUNDS):
        log_weight_D = LawDraws.at(law, drawn_D4, deviation).log_density - np.log(proposed_D)
        while effective_number(normalized(log_weight_D)) < MIN_ADAPTED_FROM:
            log_weight_D = log_weight_D / 2
        try:
            near = _around(drawn_D4, log_weight_D, generator)
        except np.linalg.LinAlgError:  # they have spread without finding what fits: what they are worth says so
            break
        new_D4 = near.rvs(count)
        proposed_D = np.concatenate((proposed_D, sum(proposal.pdf(new_D4) for proposal in proposals)))
        proposals.append(near)
        drawn_D4 = np.concatenate((drawn_D4, new_D4))
        proposed_D += near.pdf(drawn_D4)
    draws = LawDraws.at(law, drawn_D4, deviation)
    return draws, draws.log_density - np.log(proposed_D)


def _around(drawn_D4: Array, log_weight_D: Array, generator: np.random.Generator) -> Any:
    """A t distribution around weighted draws, somewhat wider than they are."""
    weight_D = normalized(log_weight_D)
    mean_4 = weight_D @ drawn_D4
    covariance_44 = (drawn_D4 - mean_4).T @ ((drawn_D4 - mean_4) * weight_D[:, None]) + 0.01 * np.eye(4)
    return stats.multivariate_t(mean_4, 1.5 * covariance_44, df=5, seed=generator)


def normalized(log_weight_D: Array) -> Array:
    """Weights that sum to 1, from their logarithms."""
    weight_D = np.exp(log_weight_D - log_weight_D.max())
    weight_D /= weight_D.sum()
    return weight_D


def effective_number(weight_D: Array) -> float:
    """Number of independent draws that weighted ones are worth (Kish 1965); the weights sum to 1."""
    return float(1 / np.sum(weight_D**2))


def inner_accuracy(mean: ArrayLike, images: ArrayLike) -> Array:
    """Accuracies moved away from 0 and 1 as `test_set_error` moves them; as by 1,000 images where their number is unknown."""
    counted = np.nan_to_num(np.asarray(images, float), nan=1000)
    return np.asarray((np.asarray(mean, float) * counted + 2) / (counted + 4), float)
