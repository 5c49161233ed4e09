"""The schedules that a sweep found: its best staged trial at each budget."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from explorer.frontier.choice import best_by_budget
from explorer.frontier.trials import trials_frame
from explorer.ledger import Record, SweepHeader


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
