"""Which worker trained which trial, and when: a row per worker, a bar per trial."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from explorer.frontier.trials import charged, rows
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import AXIS, BASELINE, FAILED, LAYOUT, STAGED, SURFACE
from explorer.report.panels.panel import Panel
from explorer.report.plotly_values import accepted

COLORS = {"staged": STAGED, "baseline": BASELINE, "failed": FAILED}
"""Color of each kind of bar."""
MAX_REASON_LENGTH = 160


def workers_data(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per trial that was trained for itself; a trial that shares the training of another took no time.

    Args:
        trials: the table that `trials_frame` returns.

    Returns:
        Columns worker (numbered by first use), id, what (staged, baseline or failed), start and minutes (minutes since the
        first trial started, and how long it took), text (escaped).
    """
    table = charged(trials).sort_values("started", kind="stable")
    numbers = {worker: number for number, worker in enumerate(dict.fromkeys(table.worker), start=1)}
    results = [
        f"test {row.metric.score_text(row.test_score)}" if row.status == "completed" else str(row.reason) for row in rows(table)
    ]
    return pd.DataFrame(
        {
            "worker": [f"worker {numbers[worker]}" for worker in table.worker],
            "id": table.id,
            "what": table.kind.where(table.status == "completed", "failed"),
            "start": (table.started - table.started.min()) / 60,
            "minutes": (table.finished - table.started) / 60,
            "text": [
                html.escape(f"{row.id} on {row.worker}: {result[:MAX_REASON_LENGTH]}")
                for row, result in zip(rows(table), results, strict=True)
            ],
        }
    )


def workers_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the bars."""
    figure = go.Figure()
    for what, color in COLORS.items():
        bars = data[data.what == what]
        if bars.empty:
            continue
        figure.add_bar(
            orientation="h",
            y=bars.worker,
            x=bars.minutes,
            base=bars.start,
            marker={"color": color, "line": {"color": SURFACE, "width": 1 if len(data) < 400 else 0}},
            hovertext=accepted(bars.text),
            hovertemplate="%{hovertext}<br>%{x:.2f} minutes<extra></extra>",
            name=what,
        )
    workers = list(dict.fromkeys(data.worker))
    figure.update_layout(LAYOUT, height=min(900, 130 + 26 * len(workers)), barmode="overlay", bargap=0.2)
    figure.update_xaxes(AXIS, title_text="minutes since the first trial started", rangemode="tozero")
    figure.update_yaxes(AXIS, type="category", categoryorder="array", categoryarray=workers[::-1], showgrid=False)
    return figure


def _panel_data(sweep: LoadedSweep) -> pd.DataFrame | None:
    data = workers_data(sweep.all_trials)
    return None if data.worker.nunique() < 2 else data


PANEL = Panel(
    name="workers",
    section="sweep",
    title="Trials of each worker",
    data=_panel_data,
    figure=workers_figure,
    label="Trials of each worker over time",
)
