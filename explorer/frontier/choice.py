"""Which schedule to use for a budget: chosen on validation data, reported on test data."""

from __future__ import annotations

import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier.uncertainty import interval, run_interval
from explorer.ledger import SweepHeader
from explorer.spec.budget import Budget
from explorer.spec.provenance import Provenance
from explorer.spec.schedule import Schedule

OF_THE_SEARCHED_RUN = (
    "kind",
    "budget",
    "budget_amount",
    "cost",
    "learning_rate",
    "batch_size",
    "planned_flops",
    "schedule",
    "stages",
)
MEASURED = ("seeds", "confirmed", "validation_mean", "test_mean", "test_low", "test_high", "test_error", "train_seconds")
COLUMNS = ("id", *OF_THE_SEARCHED_RUN, *MEASURED)


def candidates(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a searched trial, with what its seeds measured.

    Where a trial was repeated with fresh seeds, means and intervals are theirs alone: the searched run was
    picked for being good, and would flatter the mean.

    Columns: id, kind, budget, budget_amount, cost, seeds, confirmed, validation_mean, test_mean, test_low, test_high (95 %
    interval of the mean) and test_error (its standard error), NaN for one seed, learning_rate, batch_size, planned_flops,
    train_seconds, schedule, stages (the StageOutcomes of the searched run).
    """
    completed = trials[trials.status == "completed"]
    searched = completed.drop_duplicates("candidate").set_index("candidate")  # records are in the order of finishing
    fresh = completed.phase == "repeat"
    confirmed = fresh.groupby(completed.candidate).transform("any")
    runs = completed[fresh | ~confirmed].groupby("candidate", sort=False)
    measured = runs.agg(
        seeds=("seed", "size"),
        validation_mean=("validation_accuracy", "mean"),
        test_mean=("test_accuracy", "mean"),
        test_error=("test_accuracy", "sem"),
        train_seconds=("train_seconds", "mean"),
    ).reindex(searched.index)
    low, high = interval(measured.test_mean, measured.test_error, measured.seeds)
    table = searched[list(OF_THE_SEARCHED_RUN)].join(measured).assign(test_low=low, test_high=high)
    table["confirmed"] = confirmed.groupby(completed.candidate).first()
    return table.rename_axis("id").reset_index()[list(COLUMNS)]


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
                model=header.space.task.model.name,
                seed=int(run.seed),
                learning_rate=run.learning_rate,
                batch_size=int(run.batch_size),
                staging=run.staging,
                validation_accuracy=run.validation_accuracy,
                test_accuracy=run.test_accuracy,
                mean_validation_accuracy=winner["validation_mean"],
                mean_test_accuracy=winner["test_mean"],
                seeds=int(winner["seeds"]),
                expected_test_accuracy=run_interval(winner["test_mean"], winner["test_error"], int(winner["seeds"])),
                task=header.space.task,
                versions=header.versions,
            )
        }
    )
