"""Which schedule to use for a budget: chosen on validation data, reported on test data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from explorer.budget import Budget
from explorer.errors import InvalidInput
from explorer.ledger import SweepHeader
from explorer.schedule import Provenance, Schedule

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom (standard tables); then the normal's.
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean (Student's t), within [0, 1]; NaN for fewer than two values."""
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    quantile = T_QUANTILES[count - 2] if count - 2 < len(T_QUANTILES) else 1.96
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def candidates(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a searched trial, with what its seeds measured.

    Where a trial was repeated with fresh seeds, means and intervals are theirs alone: the searched run was
    picked for being good, and would flatter the mean.

    Columns: id, kind, budget, budget_amount, cost, seeds, confirmed, validation_mean, test_mean, test_low,
    test_high, learning_rate, batch_size, train_seconds, schedule.
    """
    rows = []
    for candidate, group in trials[trials.status == "completed"].groupby("candidate", sort=False):
        fresh = group[group.phase == "confirm"]
        measured = fresh if len(fresh) else group
        first = group.iloc[0]
        low, high = interval(list(measured.test_accuracy))
        rows.append(
            {
                "id": candidate,
                **{name: first[name] for name in ("kind", "budget", "budget_amount", "cost", "learning_rate", "batch_size")},
                "seeds": len(measured),
                "confirmed": len(fresh) > 0,
                "validation_mean": measured.validation_accuracy.mean(),
                "test_mean": measured.test_accuracy.mean(),
                "test_low": low,
                "test_high": high,
                "train_seconds": measured.train_seconds.mean(),
                "schedule": first.schedule,
            }
        )
    columns = [
        "id",
        "kind",
        "budget",
        "budget_amount",
        "cost",
        "learning_rate",
        "batch_size",
        "seeds",
        "confirmed",
        "validation_mean",
        "test_mean",
        "test_low",
        "test_high",
        "train_seconds",
        "schedule",
    ]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def best_by_budget(trials: pd.DataFrame) -> pd.DataFrame:
    """The best candidate of each kind at each budget, by mean validation accuracy; see `candidates` for columns.

    Where some candidates are confirmed with fresh seeds, only those compete.
    """
    table = candidates(trials)
    table = table.sort_values(
        ["budget_amount", "kind", "confirmed", "validation_mean"], ascending=[True, False, False, False], kind="stable"
    )
    return table.groupby(["budget_amount", "kind"], sort=False).head(1).reset_index(drop=True)


def best_schedule(trials: pd.DataFrame, header: SweepHeader, budget: Budget) -> Schedule:
    """The schedule to use for a budget, with its provenance: the better of staged and baseline on validation.

    Raises:
        InvalidInput: when the sweep has no finished trial, or none at this budget.
    """
    winners = best_by_budget(trials)
    if winners.empty:
        failed = int((trials.status == "failed").sum())
        raise InvalidInput("sweep", header.name, f"has no finished trial ({failed} failed)")
    here = winners[winners.budget == str(budget)]
    if here.empty:
        raise InvalidInput("budget", str(budget), f"not measured; the sweep has {', '.join(dict.fromkeys(winners.budget))}")
    return schedule_with_provenance(here.loc[here.validation_mean.idxmax()], trials, header)


def schedule_with_provenance(winner: pd.Series, trials: pd.DataFrame, header: SweepHeader) -> Schedule:
    """A candidate's schedule with where it comes from; the seed and accuracies are one run's, the means all seeds'."""
    runs = trials[(trials.candidate == winner["id"]) & (trials.status == "completed")]
    run = runs[runs.id == winner["id"]].iloc[0]
    schedule: Schedule = winner["schedule"]
    return schedule.model_copy(
        update={
            "provenance": Provenance(
                sweep=header.name,
                trial=run.id,
                budget=run.budget,
                model=header.space["model"]["name"],
                seed=int(run.seed),
                learning_rate=run.learning_rate,
                batch_size=int(run.batch_size),
                staging=run.staging,
                validation_accuracy=run.validation_accuracy,
                test_accuracy=run.test_accuracy,
                mean_validation_accuracy=winner["validation_mean"],
                mean_test_accuracy=winner["test_mean"],
                seeds=int(winner["seeds"]),
                versions=header.versions,
            )
        }
    )
