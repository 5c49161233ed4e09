"""Realised over planned training time of a sweep's trials, and what came on top of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from explorer.ledger.records import Record
from explorer.spec.time_spent import TimeSpent

CLOSE = 0.08
"""Relative difference between realised and planned time within which a trial counts as close to its plan."""


@dataclass(frozen=True)
class TrialTime:
    """Planned and realised time of one trial."""

    budget: str
    planned: float
    time: TimeSpent

    @property
    def ratio(self) -> float:
        """Realised over planned training time."""
        return self.time.training / self.planned


@dataclass(frozen=True)
class RealisedTime:
    """How closely some trials met their plans in time."""

    budget: str
    """Their budget, or `all`."""
    trials: int
    median: float
    """Median of realised over planned training time."""
    deviation_95: float
    """Relative difference from the plan that 95 % of the trials do not exceed."""
    close: float
    """Share of the trials within `CLOSE` of their plan."""
    input: float
    """Time of input as a fraction of training time."""
    on_top: dict[str, float]
    """What came on top of training, as fractions of training time."""


def trial_times(records: Iterable[Record]) -> list[TrialTime]:
    """The times of all completed trials with a planned time, without those that share the training of another one."""
    return [
        TrialTime(str(record.trial.budget), sum(planned), outcome.time)
        for record in records
        if (outcome := record.outcome) and outcome.time and record.was_trained
        if (planned := [stage.planned_seconds for stage in outcome.stage_times if stage.planned_seconds is not None])
        and len(planned) == len(outcome.stage_times)
    ]


def realised_times(records: Iterable[Record]) -> list[RealisedTime]:
    """One row per budget, in the order in which the budgets appear, and one for all of them; empty without planned times.

    Args:
        records: the records of a ledger.
    """
    times = trial_times(records)
    by_budget: dict[str, list[TrialTime]] = {}
    for each in times:
        by_budget.setdefault(each.budget, []).append(each)
    rows = [_summary(budget, group) for budget, group in by_budget.items()]
    return [*rows, _summary("all", times)] if times else []


def _summary(budget: str, times: Sequence[TrialTime]) -> RealisedTime:
    deviations = sorted(abs(each.ratio - 1) for each in times)
    training = sum(each.time.training for each in times)
    return RealisedTime(
        budget=budget,
        trials=len(times),
        median=median(each.ratio for each in times),
        deviation_95=deviations[math.ceil(0.95 * len(deviations)) - 1],
        close=sum(deviation <= CLOSE for deviation in deviations) / len(deviations),
        input=sum(each.time.input for each in times) / training,
        on_top={name: sum(each.time.on_top[name] for each in times) / training for name in times[0].time.on_top},
    )


def table_lines(rows: Sequence[RealisedTime]) -> list[str]:
    """The rows as lines of text, under a heading; what came on top as percent of training time."""
    names = list(rows[0].on_top) if rows else []
    heading = ("budget", "trials", "realised/planned", "95 % within", f"within {CLOSE:.0%}", "input", *names)
    cells = [
        (
            row.budget,
            str(row.trials),
            f"{row.median:.3f}",
            f"{row.deviation_95:.1%}",
            f"{row.close:.0%}",
            f"{row.input:.1%}",
            *(f"{row.on_top[name]:.1%}" for name in names),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (heading, *cells)) for column in range(len(heading))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in (heading, *cells)]
