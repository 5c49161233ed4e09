"""A report panel that lives outside the package: how long trials took, staged against baseline.

    PYTHONPATH=examples/extending python -m report_panel sweeps/demo reports/demo

The panel is one record: where its data comes from, how the data is drawn, and where it stands on the page.
"""

from __future__ import annotations

import sys

import pandas as pd
import plotly.graph_objects as go

from explorer.ledger import KINDS, find_sweep
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.page import write_report
from explorer.report.palette import AXIS, KIND_COLORS, LAYOUT
from explorer.report.panels import Column, Panel, Table


def training_times(sweep: LoadedSweep) -> pd.DataFrame | None:
    """Columns budget, kind and train_seconds, one row per completed trial; None leaves the panel out."""
    completed = sweep.trials[sweep.trials.status == "completed"].sort_values("budget_amount")
    return None if completed.empty else completed[["budget", "kind", "train_seconds"]]


def training_times_figure(data: pd.DataFrame) -> go.Figure:
    """A box per budget and kind. Use the colors of the palette: a dark page replaces each by its dark counterpart."""
    figure = go.Figure()
    for kind in KINDS:
        of_kind = data[data.kind == kind]
        figure.add_box(x=of_kind.budget, y=of_kind.train_seconds, name=kind, marker={"color": KIND_COLORS[kind]})
    figure.update_layout(LAYOUT, height=340, boxmode="group")
    figure.update_xaxes(AXIS, type="category", title_text="budget")
    figure.update_yaxes(AXIS, title_text="device-seconds", rangemode="tozero")
    return figure


def training_times_table(data: pd.DataFrame) -> Table:
    """The median training time of each budget and kind, below the figure."""
    medians = data.groupby(["budget", "kind"], sort=False).train_seconds.median()
    rows = tuple((str(budget), str(kind), f"{seconds:.1f}") for (budget, kind), seconds in medians.items())
    return Table((Column("budget"), Column("training"), Column("median seconds", is_number=True)), rows)


PANEL = Panel(
    name="training-times",
    section="sweep",
    title="Training times",
    note="Device-seconds of each trial's training, without evaluation.",
    data=training_times,
    figure=training_times_figure,
    label="Training times at each budget, staged and baseline",
    table=training_times_table,
)


def main(sweep: str, out: str) -> None:
    """Write the report of a sweep with the panel on its page."""
    report = write_report(find_sweep(sweep), out, panels=[PANEL])  # or panels=["report_panel:PANEL"]
    print(report.page)


if __name__ == "__main__":
    main(*sys.argv[1:])
