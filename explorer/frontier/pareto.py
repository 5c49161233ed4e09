"""Non-dominated points, hypervolume and knee for two objectives: minimal cost and maximal score."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(cost: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """Which points are not dominated: no other point is at least as good in both objectives and better in one.

    Equal points are all kept; points with a NaN are not.

    Args:
        cost: (N,)
        score: (N,)

    Returns:
        (N,) bool
    """
    cost_N, score_N = np.asarray(cost, float), np.asarray(score, float)
    valid = ~(np.isnan(cost_N) | np.isnan(score_N))
    kept = np.zeros(len(cost_N), bool)
    index = np.flatnonzero(valid)
    order = index[np.lexsort((-score_N[index], cost_N[index]))]
    if len(order) == 0:
        return kept
    costs, scores = cost_N[order], score_N[order]
    # Best score among strictly cheaper points, and best at the same cost.
    first_of_cost = np.searchsorted(costs, costs, side="left")
    running = np.concatenate(([-np.inf], np.maximum.accumulate(scores)))
    kept[order] = (scores > running[first_of_cost]) & (scores == scores[first_of_cost])
    return kept


def hypervolume(cost: ArrayLike, score: ArrayLike, reference: tuple[float, float] = (1.0, 0.0)) -> float:
    """Area dominated by the points and bounded by the reference point (largest cost, smallest score).

    With the default reference, full training and an accuracy of 0, it is the mean, over all costs up to full training, of the
    best accuracy at that cost or below. Points beyond the reference add nothing.
    """
    cost_N, score_N = np.asarray(cost, float), np.asarray(score, float)
    kept = non_dominated(cost_N, score_N)
    kept &= (cost_N < reference[0]) & (score_N > reference[1])
    if not kept.any():
        return 0.0
    order = np.argsort(cost_N[kept])
    costs, scores = cost_N[kept][order], score_N[kept][order]
    widths = np.append(costs[1:], reference[0]) - costs
    return float((widths * (scores - reference[1])).sum())


def knee(cost: ArrayLike, score: ArrayLike) -> int | None:
    """The point of the frontier above which more cost gains less than below it.

    The non-dominated point farthest above the straight line from the cheapest to the best one, with the logarithm of
    cost and the score both scaled to [0, 1] (Kneedle: Satopaa et al. 2011).

    Args:
        cost: (N,) above 0
        score: (N,)

    Returns:
        Its index; `None` if no point of the frontier lies above the line, as with fewer than three points.
    """
    cost_N, score_N = np.asarray(cost, float), np.asarray(score, float)
    index = np.flatnonzero(non_dominated(cost_N, score_N))
    if len(index) < 3:
        return None
    order = index[np.argsort(cost_N[index], kind="stable")]
    logs, scores = np.log(cost_N[order]), score_N[order]
    if logs[-1] == logs[0]:
        return None
    above = (scores - scores[0]) / (scores[-1] - scores[0]) - (logs - logs[0]) / (logs[-1] - logs[0])
    best = int(above.argmax())
    return int(order[best]) if above[best] > 1e-9 else None
