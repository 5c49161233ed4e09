"""The ledger as a table: one row a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from explorer.ledger import Record
from explorer.spec.schedule import Schedule

COLUMNS = [
    "id",
    "candidate",
    "phase",
    "kind",
    "budget",
    "budget_amount",
    "cost",
    "learning_rate",
    "batch_size",
    "seed",
    "staging",
    "status",
    "reason",
    "validation_accuracy",
    "test_accuracy",
    "planned_flops",
    "executed_flops",
    "full_flops",
    "steps",
    "train_seconds",
    "executed_seconds",
    "evaluation_seconds",
    "started",
    "finished",
    "worker",
    "device",
    "shared_with",
    "schedule",
    "stages",
    "losses",
    "parameters",
]


def trials_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record.

    Columns: `candidate` is the id of the search trial that a row belongs to (its own, or the one it
    repeat_of); `cost` the planned cost as a fraction of full training; accuracies in [0, 1], NaN for failed
    trials; `schedule` the Schedule; `stages` the StageOutcomes; `losses` the mean training loss of each segment;
    `parameters` the search's own variables.
    """
    rows = []
    for record in records:
        trial, outcome = record.trial, record.outcome
        rows.append(
            {
                **trial.model_dump(include={"id", "phase", "kind", "budget", "learning_rate", "batch_size", "seed", "staging"}),
                "budget": str(trial.budget),
                "candidate": trial.repeat_of or trial.id,
                "budget_amount": trial.budget.amount,
                "cost": outcome.planned_flops / outcome.full_flops if outcome else math.nan,
                **record.model_dump(include={"status", "reason", "started", "finished", "worker", "device", "shared_with"}),
                **{
                    name: getattr(outcome, name) if outcome else math.nan
                    for name in COLUMNS
                    if name.endswith(("_accuracy", "_flops", "_seconds")) or name == "steps"
                },
                "schedule": trial.schedule,
                "stages": outcome.stages if outcome else (),
                "losses": outcome.losses if outcome else (),
                "parameters": trial.parameters,
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def describe(schedule: Schedule) -> str:
    """A schedule in a line: `35% all 0.25 > 35% all 0.5 > 30% full`."""
    parts = []
    for stage in schedule.stages:
        rates = "full" if stage.rates.full else str(stage.rates)
        parts.append(f"{stage.duration_ratio:.0%} {rates}")
    return " > ".join(parts)
