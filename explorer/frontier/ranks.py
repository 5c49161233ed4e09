"""Rank correlations between neighbouring budgets: the premise of promotion, measured on what a sweep tried at both."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from explorer.frontier.trials import rows as rows_of
from explorer.spec.schedule import Schedule
from explorer.training_key import schedule_key, settings_key

MIN_COMMON_TRIALS = 5
"""With fewer trials in common, a rank correlation says nothing."""


def rank_correlations(trials: pd.DataFrame, durations_of: Literal["budget", "full_training"] = "budget") -> pd.DataFrame:
    """Spearman's rank correlation of scores on validation images between neighbouring budgets.

    Computed over completed search trials with equal schedule and settings; equal scores share their mean rank.

    Args:
        trials: as `trials_frame` gives.
        durations_of: as the sweep's `search.durations_of`: with `full_training`, schedules of two budgets are equal where their
            early stages are.

    Returns:
        One row per pair of neighbouring budgets, with the columns budget, next_budget, common (number of trials at both) and
        spearman (NaN for fewer than `MIN_COMMON_TRIALS` in common, or where all scores are equal).
    """
    searched = trials[(trials.status == "completed") & (trials.phase == "search")]
    budgets = searched[["budget", "budget_amount"]].drop_duplicates().sort_values("budget_amount").budget
    scores = {budget: _by_candidate(searched[searched.budget == budget], durations_of) for budget in budgets}
    rows = []
    for budget, following in zip(budgets, budgets.iloc[1:], strict=False):
        both = pd.concat([scores[budget], scores[following]], axis=1, join="inner")
        spearman = both.rank().corr().iloc[0, 1] if len(both) >= MIN_COMMON_TRIALS else float("nan")
        rows.append({"budget": budget, "next_budget": following, "common": len(both), "spearman": spearman})
    return pd.DataFrame(rows, columns=pd.Index(["budget", "next_budget", "common", "spearman"]))


def _by_candidate(trials: pd.DataFrame, durations_of: str) -> pd.Series:
    """Score on validation images by schedule and settings."""
    keys = []
    for row in rows_of(trials):
        settings = settings_key(row.learning_rate, row.batch_size, row.seed, row.staging, row.lr_schedule, row.optimizer)
        same_at_budgets = schedule_key if durations_of == "budget" else _early_stages_key
        keys.append(same_at_budgets(settings, row.schedule))
    return pd.Series(trials.validation_score.to_numpy(), index=pd.Index(keys)).groupby(level=0).first()


def _early_stages_key(settings: str, schedule: Schedule) -> str:
    """Key of settings and early stages in slots, which cost the same at all budgets of the sweep."""
    early = zip(schedule.stages[:-1], schedule.slots()[:-1], strict=True)
    return " ".join([settings, *(f"{stage.rates.model_dump_json()} {slots}" for stage, slots in early)])
