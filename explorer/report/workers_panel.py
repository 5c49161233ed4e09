"""Who trained what and when: a row a worker, a bar a trial."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from explorer.report.palette import AXIS, BASELINE, FAILED, LAYOUT, STAGED, SURFACE

LOOKS = {"staged": STAGED, "full model": BASELINE, "failed": FAILED}


def workers_data(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a record.

    Returns:
        Columns worker (by first use), id, what (staged, full model or failed), start and minutes (minutes since the
        sweep's first start, and how long it took), text.
    """
    table = trials.sort_values("started", kind="stable")
    numbers = {worker: number for number, worker in enumerate(dict.fromkeys(table.worker), start=1)}
    what = table.kind.map({"staged": "staged", "baseline": "full model"}).where(table.status == "completed", "failed")
    reached = [f"test {row.test_accuracy:.1%}" if row.status == "completed" else str(row.reason) for row in table.itertuples()]
    return pd.DataFrame(
        {
            "worker": [f"worker {numbers[worker]}" for worker in table.worker],
            "id": table.id,
            "what": what,
            "start": (table.started - table.started.min()) / 60,
            "minutes": (table.finished - table.started) / 60,
            "text": [
                html.escape(f"{row.id} on {row.worker}: {said[:160]}")
                for row, said in zip(table.itertuples(), reached, strict=True)
            ],
        }
    )


def workers_figure(data: pd.DataFrame) -> go.Figure:
    """Draw the bars."""
    figure = go.Figure()
    for what, colour in LOOKS.items():
        bars = data[data.what == what]
        if bars.empty:
            continue
        figure.add_bar(
            orientation="h",
            y=bars.worker,
            x=bars.minutes,
            base=bars.start,
            marker={"color": colour, "line": {"color": SURFACE, "width": 1 if len(data) < 400 else 0}},
            hovertext=bars.text,
            hovertemplate="%{hovertext}<br>%{x:.2f} minutes<extra></extra>",
            name=what,
        )
    rows = list(dict.fromkeys(data.worker))
    figure.update_layout(LAYOUT, height=min(900, 130 + 26 * len(rows)), barmode="overlay", bargap=0.2)
    figure.update_xaxes(AXIS, title_text="minutes since the first trial began", rangemode="tozero")
    figure.update_yaxes(AXIS, type="category", categoryorder="array", categoryarray=rows[::-1], showgrid=False)
    return figure
