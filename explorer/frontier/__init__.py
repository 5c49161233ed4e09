"""From a ledger to the curve of the metric against training cost. Needs neither torch nor ray."""

from explorer.frontier.choice import best_by_budget, best_schedule, candidates
from explorer.frontier.comparison import compare_budgets, match_full_training
from explorer.frontier.curve import MetricCurve
from explorer.frontier.pareto import hypervolume, knee, non_dominated
from explorer.frontier.prediction import PredictedCurve
from explorer.frontier.trials import trials_frame
from explorer.frontier.untrained import untrained_budget

__all__ = [
    "MetricCurve",
    "PredictedCurve",
    "best_by_budget",
    "best_schedule",
    "candidates",
    "compare_budgets",
    "hypervolume",
    "knee",
    "match_full_training",
    "non_dominated",
    "trials_frame",
    "untrained_budget",
]
