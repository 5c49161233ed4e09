"""The schedules that a sweep found: its best staged trial at each budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from explorer.frontier.choice import best_by_budget, schedule_with_provenance
from explorer.frontier.trials import describe, trials_frame
from explorer.ledger import Record, SweepHeader
from explorer.spec.schedule import Schedule
from explorer.spec.step_times import StepTimeTable


@dataclass(frozen=True, kw_only=True)
class FoundSchedule:
    """The best staged schedule of a sweep at a budget."""

    budget: str
    proxy: int | None
    """Number of the proxy that it was measured on; `None` for the sweep's own task."""
    metric: str
    """What was measured on test data: `accuracy`."""
    result: str
    """Its mean, with its 95 % interval or the number of seeds."""
    cost: float
    """Planned cost of one training, in full trainings of the sweep's own task."""
    stages: str
    """The stages on one line."""
    schedule: Schedule
    """With its provenance; without one if it was measured on a proxy, whose settings do not transfer."""


def staged_winners(records: Sequence[Record], header: SweepHeader) -> pd.DataFrame:
    """The best staged candidate at each budget, the cheapest budget first.

    Those of the sweep's own task; where none of its staged trials is completed, those of the last proxy that has some.

    Args:
        records: of the sweep.
        header: of the sweep.

    Returns:
        The columns of `candidates`, and `proxy`: its number, `None` for the sweep's own task. No rows if no staged trial is
        completed.
    """
    trials = trials_frame(records, header, of="all")
    tasks: list[int | None] = [None, *range(len(header.space.proxy), 0, -1)]
    for proxy in tasks:
        of_task = trials[trials.proxy.isna() if proxy is None else trials.proxy == proxy]
        winners = best_by_budget(of_task)
        winners = winners[winners.kind == "staged"]
        if len(winners):
            break
    return winners.assign(proxy=pd.Series([proxy] * len(winners), index=winners.index, dtype=object)).reset_index(drop=True)


def found_schedules(records: Sequence[Record], header: SweepHeader, table: StepTimeTable | None = None) -> list[FoundSchedule]:
    """What `staged_winners` found, to be listed and written.

    Args:
        records: of the sweep.
        header: of the sweep.
        table: the sweep's step times; `None` in a sweep that counts FLOPs.
    """
    trials, found = trials_frame(records, header, of="all"), []
    for _, winner in staged_winners(records, header).iterrows():
        metric, interval = winner.metric, "one seed"
        if winner.seeds > 1:
            known = not math.isnan(winner.test_low)
            interval = metric.interval_text(winner.test_low, winner.test_high, 1) if known else "equal seeds, no interval"
        of_task = winner.proxy is None
        found.append(
            FoundSchedule(
                budget=winner.budget,
                proxy=winner.proxy,
                metric=metric.label,
                result=f"{metric.score_text(winner.test_mean, 1)} ({interval})",
                cost=winner.cost,
                stages=describe(winner.schedule),
                schedule=schedule_with_provenance(winner, trials, header, table) if of_task else winner.schedule,
            )
        )
    return found
