"""Which schedule to use for a budget: chosen on validation data, reported on test data."""

from __future__ import annotations

from typing import Any

import pandas as pd

from explorer.errors import InvalidInput
from explorer.frontier.trials import metric_of, row_with_largest
from explorer.frontier.uncertainty import floored_error, interval, run_interval
from explorer.frontier.untrained import measured_at, untrained_budget
from explorer.ledger import SweepHeader
from explorer.spec.budget import Budget
from explorer.spec.provenance import PredictedAccuracy, Provenance
from explorer.spec.schedule import Schedule
from explorer.spec.step_times import StepTimeTable

SEARCHED_COLUMNS = (
    "kind",
    "budget",
    "budget_amount",
    "budget_unit",
    "cost",
    "learning_rate",
    "batch_size",
    "planned_flops",
    "planned_seconds",
    "full_flops",
    "full_seconds",
    "currency",
    "metric",
    "also",
    "steps",
    "schedule",
    "stages",
)
"""Columns that describe the searched run of a candidate."""
MEASURED_COLUMNS = (
    "seeds",
    "repeated",
    "validation_mean",
    "test_mean",
    "test_low",
    "test_high",
    "test_error",
    "seed_error",
    "test_images",
    "test_correct",
    "also_validation",
    "also_test",
    "train_seconds",
)
"""Columns that are means over a candidate's runs."""
COLUMNS = ("id", *SEARCHED_COLUMNS, *MEASURED_COLUMNS)


def candidates(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per completed search trial, with means over its seeds.

    Where a trial was repeated with fresh seeds, means and intervals are over those runs alone: the searched run was selected
    for its high score and would bias the mean.

    Args:
        trials: the table that `trials_frame` returns.

    Returns:
        Columns id, kind, budget, budget_amount, budget_unit, cost, learning_rate, batch_size, planned_flops, planned_seconds,
        full_flops, full_seconds, currency, metric and also (the MetricSpecs), steps, schedule, stages (the StageOutcomes of
        the searched run), seeds (number of runs behind the means), repeated (True if fresh seeds were trained),
        validation_mean, test_mean, test_low and test_high (scores, of which the higher one is better: the mean and its 95 %
        confidence interval on test data), test_error (the standard error behind the interval: `floored_error`), seed_error
        (standard error over the seeds alone), test_images (NaN if unknown), test_correct (which test images each run
        classifies correctly, `None` where that was not recorded), also_validation and also_test (mean values of a second
        metric) and train_seconds (mean). Interval and errors are NaN for one seed, and for equal seeds if the number of test
        images is unknown.
    """
    completed = trials[trials.status == "completed"]
    searched = completed.drop_duplicates("candidate").set_index("candidate")  # records are in the order of finishing
    fresh = completed.phase == "repeat"
    repeated = fresh.groupby(completed.candidate).transform("any")
    runs = completed[fresh | ~repeated].groupby("candidate", sort=False)
    measured = runs.agg(
        seeds=("seed", "size"),
        validation_mean=("validation_score", "mean"),
        test_mean=("test_score", "mean"),
        seed_error=("test_score", "sem"),
        test_images=("test_images", "first"),
        test_correct=("test_correct", tuple),
        also_validation=("also_validation", "mean"),
        also_test=("also_test", "mean"),
        train_seconds=("train_seconds", "mean"),
    ).reindex(searched.index)
    measured["test_error"] = floored_error(measured.test_mean, measured.seed_error, measured.seeds, measured.test_images)
    low, high = interval(measured.test_mean, measured.test_error, measured.seeds, metric_of(trials).score_bounds)
    table = searched[list(SEARCHED_COLUMNS)].join(measured).assign(test_low=low, test_high=high)
    table["repeated"] = repeated.groupby(completed.candidate).first()
    return table.rename_axis("id").reset_index()[list(COLUMNS)]


def best_by_budget(trials: pd.DataFrame) -> pd.DataFrame:
    """The best candidate of each kind at each budget, by mean score on validation data; see `candidates` for the columns.

    Where some candidates were repeated with fresh seeds, only those compete.
    """
    table = candidates(trials)
    table = table.sort_values(
        ["budget_amount", "kind", "repeated", "validation_mean"], ascending=[True, False, False, False], kind="stable"
    )
    return table.groupby(["budget_amount", "kind"], sort=False).head(1).reset_index(drop=True)


def best_schedule(trials: pd.DataFrame, header: SweepHeader, budget: Budget, table: StepTimeTable | None = None) -> Schedule:
    """The schedule to use for a budget, with its provenance: the better of staged and baseline on validation data.

    For a budget that was not trained, it is that of a `neighbour`, and its provenance has the predicted accuracy.

    Args:
        trials: the table that `trials_frame` returns.
        header: the header of the sweep.
        budget: a budget of the sweep, or any other one in its currency.
        table: the sweep's step times; `None` in a sweep that counts FLOPs.

    Raises:
        InvalidInput: when the sweep has no finished trial, or the budget was not trained and cannot be predicted, is in another
            currency, or is time of another kind of device.
    """
    winners = best_by_budget(trials)
    if winners.empty:
        failed = int((trials.status == "failed").sum())
        raise InvalidInput("sweep", header.name, f"has no finished trial ({failed} failed)")
    measured = measured_at(winners, trials, header, budget)
    if measured.empty:
        untrained = untrained_budget(winners, trials, header, budget)
        return schedule_with_provenance(untrained.neighbour, trials, header, table, untrained.prediction)
    return schedule_with_provenance(row_with_largest(measured, "validation_mean"), trials, header, table)


def schedule_with_provenance(
    winner: pd.Series[Any],
    trials: pd.DataFrame,
    header: SweepHeader,
    table: StepTimeTable | None = None,
    prediction: PredictedAccuracy | None = None,
) -> Schedule:
    """A candidate's schedule with its provenance: seed and results of the searched run, means over all of its seeds.

    Args:
        winner: a row of `candidates`.
        trials: the table that `trials_frame` returns, or the rows of this candidate.
        header: the header of the sweep.
        table: the sweep's step times; `None` in a sweep that counts FLOPs.
        prediction: for the budget that the schedule is chosen for, if it was not trained.
    """
    runs = trials[(trials.candidate == winner["id"]) & (trials.status == "completed")]
    searched = runs[runs.id == winner["id"]]
    run = (runs if searched.empty else searched).iloc[0]  # the record of the searched run may be lost while repeats are there
    schedule: Schedule = winner["schedule"]
    metric = metric_of(runs)
    expected = run_interval(
        winner["test_mean"], winner["seed_error"], int(winner["seeds"]), winner["test_images"], metric.score_bounds
    )
    provenance = Provenance(
        sweep=header.name,
        trial=run.id,
        budget=run.budget,
        currency=header.space.currency,
        price=header.space.price if run.budget_unit == "money" else None,
        step_times=table and table.part_for((stage.rates for stage in schedule.stages), int(run.batch_size), run.staging),
        model=header.space.task.model.name,
        seed=int(run.seed),
        learning_rate=run.learning_rate,
        batch_size=int(run.batch_size),
        staging=run.staging,
        lr_schedule=run.lr_schedule,
        optimizer=run.optimizer,
        metric=metric,
        validation=metric.value(run.validation_score),
        test=metric.value(run.test_score),
        mean_validation=metric.value(winner["validation_mean"]),
        mean_test=metric.value(winner["test_mean"]),
        seeds=int(winner["seeds"]),
        expected_test=None if expected is None else metric.interval(*expected),
        prediction=prediction,
        task=header.space.task,
        model_input=header.model_input,
        listings={role: split.listing for role, split in header.inventory.splits.items()} if header.inventory else {},
        versions=header.versions,
    )
    return schedule.with_provenance(provenance)
