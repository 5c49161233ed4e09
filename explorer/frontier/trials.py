"""The ledger as a table: one row per trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pandas as pd

from explorer.errors import InvalidInput
from explorer.ledger import Outcome, Record, SweepHeader, of_target
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.schedule import Schedule

COLUMNS = [
    "id",
    "candidate",
    "phase",
    "kind",
    "budget",
    "budget_amount",
    "budget_unit",
    "cost",
    "executed_cost",
    "currency",
    "learning_rate",
    "batch_size",
    "seed",
    "staging",
    "lr_schedule",
    "optimizer",
    "known_schedule",
    "proxy",
    "from_proxy",
    "from_sweep",
    "status",
    "reason",
    "shared_with",
    "reused_from",
    "metric",
    "validation_score",
    "test_score",
    "test_correct",
    "also",
    "also_validation",
    "also_test",
    "test_images",
    "planned_flops",
    "executed_flops",
    "full_flops",
    "planned_seconds",
    "full_seconds",
    "steps",
    "processes",
    "train_seconds",
    "executed_seconds",
    "evaluation_seconds",
    "started",
    "finished",
    "worker",
    "device",
    "schedule",
    "stages",
    "losses",
    "segment_ends",
    "parameters",
    "versions",
]
Tasks = Literal["target", "all"]
MEASURED = [name for name in COLUMNS if name.endswith(("_score", "_flops", "_seconds")) or name in ("steps", "processes")]
"""Columns that a failed trial leaves NaN."""
OF_EACH_DEVICE = ("train_seconds", "executed_seconds", "evaluation_seconds")
"""Times of a record that are those of one of its devices."""


def trials_frame(records: Sequence[Record], header: SweepHeader | None = None, *, of: Tasks = "target") -> pd.DataFrame:
    """One row per record.

    Args:
        records: the records of a ledger.
        header: the header of the ledger. Its inventory has the number of test images, without which confidence intervals may
            be narrower than the test set allows; see `explorer.frontier.uncertainty.floored_error`.
        of: whose trials: those of the sweep's own task (`target`), or of its proxies too (`all`), which say what the sweep cost
            and nothing about the target's results.

    Raises:
        InvalidInput: when trials were measured by different metrics.

    Returns:
        A table with the columns of `COLUMNS`. `candidate` is the id of the search trial that a row belongs to: its own, or the
        one that it repeats. `budget` is the budget as text (`25%`), `budget_amount` and `budget_unit` are its parts. `cost` is
        the planned cost and `executed_cost` the executed one, both as fractions of full training in the sweep's `currency`.
        `train_seconds`, `executed_seconds` and `evaluation_seconds` are device-seconds as measured: seconds times the number of
        `processes` that trained together, each on a device. `planned_seconds` and `full_seconds` are by the sweep's table of
        step times, and NaN without one. `shared_with` is the id of the trial whose training this record shares, if any; such a
        training is charged to that trial alone. `metric` is the MetricSpec of completed trials. `validation_score` and
        `test_score` are its values as scores, of which the higher one is better: the value itself, or its negative where lower
        values are better. `test_correct` says which test images were classified correctly, where that was recorded. `also` is
        the MetricSpec of a second metric, `also_validation` and `also_test` are its values. What was measured is NaN for failed
        trials. `test_images` is the number of test images, NaN if unknown, and for metrics that are no fraction of the images,
        whose intervals are those of the seeds alone. `schedule` is the Schedule, `stages` the StageOutcomes, `losses` the mean
        training loss of each segment and `segment_ends` the budget time at the end of each, `lr_schedule` is the kind of the
        learning-rate schedule and `optimizer` the OptimizerChoice where the search compares several, `known_schedule` the name
        of a schedule of `search.first`, `proxy` the number of the proxy that was trained, `from_proxy` why a schedule was taken
        from one (`promoted`, `control`), `from_sweep` the trial of an earlier sweep whose schedule it is (`25pct-staged-003 of
        A`), `reused_from` the trial of another sweep whose result it has, `parameters` the search's own variables, and
        `versions` those of the packages on the worker. The costs of a proxy are fractions of the target's full training.
    """
    inventory = header.inventory if header else None
    test_images = inventory.test.images if inventory and inventory.test.images else math.nan
    chosen = of_target(records) if of == "target" else records
    if len(metrics := {record.outcome.metric for record in chosen if record.outcome}) > 1:
        names = " and ".join(sorted(f"{metric.label} ({metric.direction})" for metric in metrics))
        raise InvalidInput("sweep", header.name if header else "records", f"has results of different metrics: {names}")
    if any(not metric.is_fraction_of_images for metric in metrics):
        test_images = math.nan
    rows = [{**_row(record), "test_images": test_images} for record in chosen]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _row(record: Record) -> dict[str, Any]:
    trial, outcome = record.trial, record.outcome
    return {
        "id": trial.id,
        "candidate": trial.repeat_of or trial.id,
        "phase": trial.phase,
        "kind": trial.kind,
        "budget": str(trial.budget),
        "budget_amount": trial.budget.amount,
        "budget_unit": trial.budget.unit,
        "cost": outcome.planned_cost if outcome else math.nan,
        "executed_cost": outcome.executed_cost if outcome else math.nan,
        "currency": outcome.currency if outcome else None,
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "seed": trial.seed,
        "staging": trial.staging,
        "lr_schedule": trial.lr_schedule,
        "optimizer": trial.optimizer,
        "known_schedule": trial.known_schedule,
        "proxy": trial.proxy,
        "from_proxy": trial.from_proxy,
        "from_sweep": None if trial.from_sweep is None else str(trial.from_sweep),
        "status": record.status,
        "reason": record.reason,
        "shared_with": record.shared_with,
        "reused_from": None if record.reused_from is None else str(record.reused_from),
        "metric": outcome.metric if outcome else None,
        "test_correct": outcome.test_correct if outcome else None,
        "also": outcome.also.metric if outcome and outcome.also else None,
        "also_validation": outcome.also.validation if outcome and outcome.also else math.nan,
        "also_test": outcome.also.test if outcome and outcome.also else math.nan,
        **{name: _measured(outcome, name) if outcome else math.nan for name in MEASURED},
        "started": record.started,
        "finished": record.finished,
        "worker": record.worker,
        "device": record.device,
        "schedule": trial.schedule,
        "stages": outcome.stages if outcome else (),
        "losses": outcome.losses if outcome else (),
        "segment_ends": outcome.segment_ends if outcome else (),
        "parameters": trial.parameters,
        "versions": record.versions,
    }


def _measured(outcome: Outcome, name: str) -> float:
    value: float | None = getattr(outcome, name)
    if value is None:
        return math.nan
    return value * outcome.processes if name in OF_EACH_DEVICE else value


def metric_of(table: pd.DataFrame) -> MetricSpec:
    """The metric of a table of trials or candidates; accuracy if the table does not say, or nothing is completed."""
    metrics = list(table["metric"].dropna()) if "metric" in table.columns else []
    metric: MetricSpec = metrics[0] if metrics else ACCURACY
    return metric


def charged(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that were trained for themselves: without those that have the result of another trial, here or elsewhere."""
    return trials[trials.shared_with.isna() & trials.reused_from.isna()]


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """The rows of a table as named tuples; what their fields hold is documented with the table."""
    return table.itertuples()


def row_with_largest(table: pd.DataFrame, column: str) -> pd.Series[Any]:
    """The row with the largest value of a column, the first of equal ones."""
    return table.iloc[int(table[column].to_numpy(float).argmax())]


def better_kinds(winners: pd.DataFrame) -> pd.DataFrame:
    """The better of staged and baseline training at each budget, on validation data.

    Args:
        winners: the table that `best_by_budget` returns.
    """
    return winners.loc[winners.groupby("budget_amount").validation_mean.idxmax()]


def full_training_cost(trials: pd.DataFrame) -> float:
    """Cost of full training in the sweep's currency: FLOPs or device-seconds.

    Args:
        trials: the table that `trials_frame` returns, with at least one completed trial.
    """
    first = trials[trials.status == "completed"].iloc[0]
    return float(first.full_flops if first.currency == "flops" else first.full_seconds)


def describe(schedule: Schedule) -> str:
    """A schedule on one line: `35% all 0.25 > 35% all 0.5 > 30% full`."""
    parts = []
    for stage in schedule.stages:
        rates = "full" if stage.rates.full else str(stage.rates)
        augmentation = "" if stage.augmentation.full else f" {stage.augmentation}"
        batch = "" if stage.batch_factor == 1 else f" batch x{stage.batch_factor:g}"
        duration = f"{stage.epochs:g} epochs" if stage.duration_ratio is None else f"{stage.duration_ratio:.0%}"
        parts.append(f"{duration} {rates}{augmentation}{batch}")
    return " > ".join(parts)
