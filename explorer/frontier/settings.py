"""What the staged trials of a search varied, as a table of numbers: stage lengths, rates, learning rate, batch size."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from explorer.frontier.trials import metric_of
from explorer.spec.rates import AXES
from explorer.spec.schedule import Schedule, Stage

FULL_SHARE = "full share"


def is_choice(name: str, values: pd.Series[Any]) -> bool:
    """Whether a column of `settings_table` has choices and not amounts: words, and batch sizes, of which there are a few."""
    return not is_numeric_dtype(values) or name == "batch_size"


def settings_table(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per completed staged search trial.

    Schedules are aligned at their last stage, the full model. A schedule with fewer stages than others starts with
    stages of zero length, whose rates are those of the stage after them.

    Args:
        trials: the table that `trials_frame` returns.

    Returns:
        Columns id, budget, budget_amount, validation (the value of the metric); `share 1`, `share 2`, ... of the budget for
        each stage and `full share` for the last one; `rate 1` ... where all axes move together, else `heads 1`, `mlp 1`, ...;
        learning_rate, batch_size, lr_schedule, optimizer, and every searched setting of `staging`. Rates, learning rate, batch
        size, learning-rate schedule, optimizer and staging have a column only if they vary. Known schedules that the search
        could not propose are left out, and so are rates that are numbers (of heads, channels, tokens or blocks) or lists: they
        have no place on an axis of fractions.
    """
    searched = trials[(trials.status == "completed") & (trials.phase == "search") & (trials.kind == "staged")]
    searched = searched[searched.known_schedule.isna() | searched.parameters.map(bool)]
    searched = searched[[_plain(schedule) for schedule in searched.schedule]].reset_index(drop=True)
    if searched.empty:
        return pd.DataFrame(columns=pd.Index(["id", "budget", "budget_amount", "validation", FULL_SHARE]))
    count = max(len(schedule.stages) for schedule in searched.schedule)
    padded = [_padded(schedule, count) for schedule in searched.schedule]
    moving = [axis for axis in AXES if any(getattr(stage.rates, axis) < 1 for stages in padded for stage in stages)]
    tied = all(len({getattr(stage.rates, axis) for axis in moving}) <= 1 for stages in padded for stage in stages)
    columns = {name: searched[name] for name in ("id", "budget", "budget_amount")}
    columns["validation"] = metric_of(searched).values(searched.validation_score)
    varying: dict[str, list[float] | pd.Series] = {}
    for number in range(count - 1):
        columns[f"share {number + 1}"] = pd.Series([stages[number].share for stages in padded])
        for axis in moving[:1] if tied else moving:
            values = [getattr(stages[number].rates, axis) for stages in padded]
            varying[f"{'rate' if tied else axis} {number + 1}"] = values
    columns[FULL_SHARE] = pd.Series([stages[-1].share for stages in padded])
    varying |= {name: searched[name] for name in ("learning_rate", "batch_size", "lr_schedule")}
    varying["optimizer"] = pd.Series([None if choice is None else choice.name for choice in searched.optimizer])
    for name in sorted({name for staging in searched.staging for name in staging}):
        varying[name] = pd.Series([staging.get(name) for staging in searched.staging])
    return pd.DataFrame(columns).assign(**{name: values for name, values in varying.items() if len(set(values)) > 1})


def _padded(schedule: Schedule, count: int) -> list[Stage]:
    missing = Stage(rates=schedule.stages[0].rates, duration_ratio=0)
    return [missing] * (count - len(schedule.stages)) + list(schedule.stages)


def _plain(schedule: Schedule) -> bool:
    """Whether every rate of a schedule is a fraction of the whole model."""
    return all(isinstance(getattr(stage.rates, axis), float) for stage in schedule.stages for axis in AXES)
