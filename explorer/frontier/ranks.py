"""Do ranks carry over from one budget to the next? The premise of climbing, measured on what a sweep tried at both."""

from __future__ import annotations

import json

import pandas as pd

from explorer.frontier.trials import rows as rows_of

LEAST_COMMON = 5
"""With fewer trials in common a rank correlation says nothing."""


def rank_correlations(trials: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of validation accuracies between neighbouring budgets.

    Over completed search trials of equal schedule and settings; equal accuracies share their mean rank.

    Args:
        trials: as `trials_frame` gives.

    Returns:
        One row a pair of neighbouring budgets: budget, next_budget, common (trials at both), spearman (NaN for fewer than
        `LEAST_COMMON` in common, or where all accuracies are equal).
    """
    searched = trials[(trials.status == "completed") & (trials.phase == "search")]
    budgets = searched[["budget", "budget_amount"]].drop_duplicates().sort_values("budget_amount").budget
    accuracies = {budget: _by_settings(searched[searched.budget == budget]) for budget in budgets}
    rows = []
    for budget, following in zip(budgets, budgets.iloc[1:], strict=False):
        both = pd.concat([accuracies[budget], accuracies[following]], axis=1, join="inner")
        spearman = both.rank().corr().iloc[0, 1] if len(both) >= LEAST_COMMON else float("nan")
        rows.append({"budget": budget, "next_budget": following, "common": len(both), "spearman": spearman})
    return pd.DataFrame(rows, columns=pd.Index(["budget", "next_budget", "common", "spearman"]))


def _by_settings(trials: pd.DataFrame) -> pd.Series:
    """Validation accuracy by what was trained."""
    keys = [
        json.dumps([row.schedule.model_dump(exclude={"provenance"}), row.learning_rate, row.batch_size, row.staging, row.seed])
        for row in rows_of(trials)
    ]
    return pd.Series(trials.validation_accuracy.to_numpy(), index=pd.Index(keys)).groupby(level=0).first()
