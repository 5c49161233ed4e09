"""The trials that failed, and why."""

from __future__ import annotations

import pandas as pd

from explorer.frontier.trials import rows
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Column, Panel, Table


def _panel_data(sweep: LoadedSweep) -> pd.DataFrame | None:
    failed = sweep.all_trials[sweep.all_trials.status == "failed"]
    return None if failed.empty else failed


def _table(failed: pd.DataFrame) -> Table:
    return Table((Column("trial"), Column("reason", wraps=True)), tuple((row.id, str(row.reason)) for row in rows(failed)))


PANEL = Panel(
    name="failures",
    section="failures",
    data=_panel_data,
    table=_table,
)
