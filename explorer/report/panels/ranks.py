"""Whether the ranks of schedules carry over from one budget to the next."""

from __future__ import annotations

import pandas as pd

from explorer.frontier.ranks import rank_correlations
from explorer.frontier.trials import rows
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Column, Panel, Table


def ranks_table(correlations: pd.DataFrame) -> Table:
    """The rank correlations of neighboring budgets as text."""
    columns = (
        Column("from"),
        Column("to"),
        Column("Spearman's rank correlation", is_number=True),
        Column("trials at both", is_number=True),
    )
    cells = tuple(
        (
            str(row.budget),
            str(row.next_budget),
            f"{row.spearman:.2f}" if pd.notna(row.spearman) else "too few trials in common",
            str(row.common),
        )
        for row in rows(correlations)
    )
    return Table(columns, cells)


def _panel_data(sweep: LoadedSweep) -> pd.DataFrame | None:
    correlations = rank_correlations(sweep.trials, sweep.header.space.search.durations_of)
    return None if correlations.spearman.isna().all() else correlations


PANEL = Panel(
    name="ranks",
    section="sweep",
    title="Do ranks carry over from one budget to the next?",
    data=_panel_data,
    table=ranks_table,
)
