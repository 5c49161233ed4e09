"""The metric against cost, staged against baseline."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier import MetricCurve
from explorer.frontier.curve import Expected
from explorer.frontier.trials import describe, metric_of, rows
from explorer.ledger import Kind
from explorer.report.frontier_data import NEXT_TO, FrontierData
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import AXIS, BASELINE, KIND_DASHES, LAYOUT, STAGED, faded
from explorer.report.panels.panel import Panel
from explorer.report.plotly_values import accepted
from explorer.report.units import CostUnit, significant
from explorer.spec.metric import ACCURACY, MetricSpec

LEGEND: dict[Kind, str] = {"staged": "staged schedules", "baseline": "baseline (full model throughout)"}
BAND_POINTS = 60
"""Costs at which a band is drawn."""
PREDICTED_POINTS = 12
"""Costs at which a prediction is drawn and can be hovered over."""


@dataclass(frozen=True)
class TraceStyle:
    """The appearance of one sweep's traces: a color for each kind, and the legend's text before the kind."""

    staged: str = STAGED
    baseline: str = BASELINE
    prefix: str = ""

    def color(self, kind: Kind) -> str:
        """The color of a kind."""
        return self.staged if kind == "staged" else self.baseline


def frontier_figure(
    sweeps: Sequence[tuple[FrontierData, TraceStyle]],
    units: Sequence[CostUnit],
    *,
    single_runs: bool = True,
    height: int = 480,
) -> go.Figure:
    """Draw the frontier in the first unit; each trace's `meta.x` has its costs in all units, by the unit's key."""
    figure = go.Figure()
    for data, style in sweeps:
        for kind, between in data.between.items():
            _add_band(figure, data, kind, between, style, units)
    for data, style in sweeps:
        for kind in data.predicted:
            _add_prediction(figure, data, kind, style, units)
    for data, style in sweeps:
        for kind in data.between if single_runs else ():
            runs = data.runs[data.runs.kind == kind]
            _add_runs(figure, runs[runs.dominated], style, 0.13, units)
            _add_runs(figure, runs[~runs.dominated], style, 0.4, units)
    for data, style in sweeps:
        for kind in reversed(list(data.between)):
            _add_curve(figure, data.curves[data.curves.kind == kind], style, units)
    figure.update_layout(LAYOUT, height=height)
    figure.update_xaxes(AXIS, type="log", **units[0].axis)
    costs = np.concatenate([units[0].amounts(data.runs) for data, _ in sweeps])
    if costs.max() < 1.5 * costs.min():  # one budget: the plans differ by a step or two, which is not to fill the axis
        figure.update_xaxes(range=[np.log10(costs.min() / 2), np.log10(2 * costs.max())])
    metric = sweeps[0][0].metric
    better = "" if metric == ACCURACY else f", {metric.better} is better"
    figure.update_yaxes(AXIS, title_text=f"test {metric.label}{better}", **metric.axis)
    return figure


NOTE = (
    "Curves: the best schedule of each budget, chosen on validation data and shown on test data. Bars are 95 % intervals "
    "over fresh seeds (Student's t){floor}. A difference counts only where the "
    "intervals of both kinds are apart. Small points: single runs, dominated ones fainter. The baseline trains the full model "
    "throughout, at every budget, with the same recipe, seeds and choices of learning rate and batch size; its learning rate "
    "decays to zero within the budget. Click a point to see its schedule."
)
PREDICTED_NOTE = (
    "Bands are predicted: what a search at that budget would find lies in them with a probability of 95 %, by laws of error "
    "against cost through the trained budgets. Dashed lines lead on to budgets that were not trained."
)


def _note(data: FrontierData) -> str:
    """How to read the figure, with what intervals and predictions are for the metric."""
    metric = data.metric
    floor = ", at least as wide as the number of test images allows"
    if not metric.is_fraction_of_images:
        floor = f"; what the number of test images allows is not in them, since {metric.label} is no fraction of the images"
    return " ".join([NOTE.format(floor=floor), *_predictions_note(data)])


def _predictions_note(data: FrontierData) -> list[str]:
    """What is said of predictions: how to read them, and of which kind there is none."""
    notes = [PREDICTED_NOTE] if data.predicted else []
    for kind, reason in data.obstacles.items():
        if kind in data.between:
            notes.append(f"Nothing is predicted for {kind} training: {reason}.")
    return notes


def _sweep_figure(sweep: LoadedSweep) -> go.Figure:
    return frontier_figure([(sweep.data, TraceStyle())], sweep.units)


PANEL = Panel(
    name="frontier",
    section="frontier",
    data=lambda sweep: sweep,
    figure=_sweep_figure,
    label="Test metric against training cost, staged schedules and baseline",
    note=lambda sweep: _note(sweep.data),
    template="frontier.html",
)


def _add_band(
    figure: go.Figure,
    data: FrontierData,
    kind: Kind,
    between: MetricCurve,
    style: TraceStyle,
    units: Sequence[CostUnit],
) -> None:
    """The 95 % band of the metric between the measured budgets: what is predicted there, or the uncertainty of the means."""
    predicted = data.predicted.get(kind)
    if len(between.costs) < 2 or not (predicted or between.has_interval):
        return
    cost_M = np.geomspace(between.costs[0], between.costs[-1], BAND_POINTS)
    cost_M[-1] = between.costs[-1]
    expected = predicted.at(cost_M) if predicted else between.at(cost_M)
    _add_area(
        figure, data.costs_at(kind, np.concatenate((cost_M, cost_M[::-1]))), expected, style.color(kind), units, data.metric
    )


def _add_prediction(figure: go.Figure, data: FrontierData, kind: Kind, style: TraceStyle, units: Sequence[CostUnit]) -> None:
    """What is predicted above the most expensive measured budget: a dashed line with its band, up to full training."""
    curve, measured = data.predicted[kind], data.between[kind]
    largest, end = float(measured.costs[-1]), data.shown_to(kind)
    if end < largest * NEXT_TO:
        return
    band_M = np.geomspace(largest, end, BAND_POINTS)
    there_and_back = data.costs_at(kind, np.concatenate((band_M, band_M[::-1])))
    _add_area(figure, there_and_back, curve.at(band_M), style.color(kind), units)
    cost_M = np.geomspace(largest, end, PREDICTED_POINTS + 1)
    expected, costs = curve.at(cost_M), data.costs_at(kind, cost_M)
    figure.add_scatter(
        x=units[0].amounts(costs),
        y=np.append(measured.means[-1], expected.mean[1:]),  # from the measured point on
        mode="lines",
        line={"color": style.color(kind), "width": 2.5, "dash": "dash"},
        hoverinfo="skip",
        name=f"{style.prefix}predicted, {kind}",
        legendrank=1001,  # after the curves
        meta={"x": _in_all_units(costs, units)},
    )
    # Points to hover over: apart from the line, so that none covers the measured point where it begins.
    figure.add_scatter(
        x=units[0].amounts(costs[1:]),
        y=expected.mean[1:],
        mode="markers",
        marker={"color": style.color(kind), "size": 9, "opacity": 0},
        text=[
            f"<b>predicted {mean:.1%}</b> [{low:.1%}, {high:.1%}], {kind}<br>{100 * cost:.3g}% of full training, not trained"
            f"<br>from {len(measured.costs)} trained budgets"
            for cost, mean, low, high in list(zip(cost_M, *expected, strict=True))[1:]
        ],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        meta={"x": _in_all_units(costs[1:], units)},
    )


def _add_area(
    figure: go.Figure,
    there_and_back: pd.DataFrame,
    expected: Expected,
    color: str,
    units: Sequence[CostUnit],
    metric: MetricSpec = ACCURACY,
) -> None:
    """The area between the bounds of an interval; the costs are those of the upper bounds, then of the lower ones back."""
    figure.add_scatter(
        x=units[0].amounts(there_and_back),
        y=metric.values(np.concatenate((expected.high, expected.low[::-1]))),
        fill="toself",
        fillcolor=faded(color, 0.12),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        meta={"x": _in_all_units(there_and_back, units)},
    )


def _add_runs(figure: go.Figure, runs: pd.DataFrame, style: TraceStyle, opacity: float, units: Sequence[CostUnit]) -> None:
    if runs.empty:
        return
    kind: Kind = runs.kind.iloc[0]
    figure.add_scatter(
        x=units[0].amounts(runs),
        y=metric_of(runs).values(runs.test_score),
        mode="markers",
        marker={"color": style.color(kind), "size": 6, "opacity": opacity},
        text=[_hover(run) for run in rows(runs)],
        customdata=accepted([[run.candidate, run.id] for run in rows(runs)]),
        hovertemplate="%{text}<extra></extra>",
        name=f"{style.prefix}single runs, {kind}",
        showlegend=False,
        meta={"x": _in_all_units(runs, units)},
    )


def _add_curve(figure: go.Figure, curve: pd.DataFrame, style: TraceStyle, units: Sequence[CostUnit]) -> None:
    kind: Kind = curve.kind.iloc[0]
    metric = metric_of(curve)
    above, below = curve.test_high - curve.test_mean, curve.test_mean - curve.test_low
    figure.add_scatter(
        x=units[0].amounts(curve),
        y=metric.values(curve.test_mean),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (above if metric.direction == "maximize" else below).fillna(0),
            "arrayminus": (below if metric.direction == "maximize" else above).fillna(0),
            "thickness": 1.4,
            "width": 4,
        },
        mode="lines+markers",
        line={"color": style.color(kind), "width": 2.5, "dash": KIND_DASHES[kind]},
        marker={"size": 9, "symbol": "circle" if kind == "staged" else "square"},
        text=[_hover_mean(point) for point in rows(curve)],
        customdata=accepted([[point.id] for point in rows(curve)]),
        hovertemplate="%{text}<extra></extra>",
        name=style.prefix + LEGEND[kind],
        meta={"x": _in_all_units(curve, units)},
    )


def _in_all_units(costs: pd.DataFrame, units: Sequence[CostUnit]) -> dict[str, list[float]]:
    return {unit.key: [float(f"{amount:.6g}") for amount in unit.amounts(costs)] for unit in units}


def _hover(run: Any) -> str:
    shared = "" if pd.isna(run.shared_with) else f", the same training as {html.escape(run.shared_with)}"
    shared += "" if pd.isna(run.reused_from) else f", result of {html.escape(run.reused_from)}"
    shared += "" if pd.isna(run.from_sweep) else f", schedule of {html.escape(run.from_sweep)}"
    lines = [
        f"<b>{html.escape(run.id)}</b>{', repeat with a fresh seed' if run.phase == 'repeat' else ''}{shared}",
        f"test {run.metric.score_text(run.test_score)}, validation {run.metric.score_text(run.validation_score)}{_also(run)}",
        f"budget {run.budget}: {run.cost:.3%} of full training, {_planned(run)}{run.planned_flops:.3g} FLOPs",
        describe(run.schedule),
        f"learning rate {run.learning_rate:.2e}, batch size {run.batch_size:.0f}, seed {run.seed}",
        f"{run.steps:,.0f} steps, {run.train_seconds:.1f} s on {html.escape(run.device)}",
    ]
    searched = {} if run.lr_schedule is None else {"learning-rate schedule": run.lr_schedule}
    searched |= {} if run.optimizer is None else {"optimizer": run.optimizer.name}
    settings = ", ".join(f"{key} {value}" for key, value in {**searched, **run.staging}.items())
    return "<br>".join([*lines, html.escape(settings)] if settings else lines)


def _also(run: Any) -> str:
    """The second metric on test images; nothing if there is none."""
    return "" if run.also is None else f"; test {html.escape(run.also.label)} {run.also.text(run.also_test)}"


def _planned(run: Any) -> str:
    return "" if pd.isna(run.planned_seconds) else f"{significant(run.planned_seconds)} device-seconds planned, "


def _hover_mean(point: Any) -> str:
    metric, interval = point.metric, ""
    if pd.notna(point.test_low):
        interval = " [{}, {}]".format(*map(metric.text, metric.interval(point.test_low, point.test_high)))
    return (
        f"<b>test {metric.score_text(point.test_mean)}</b>{interval}, {point.seeds} seed{'s' if point.seeds > 1 else ''}<br>"
        f"budget {point.budget}, validation {metric.score_text(point.validation_mean)}{_also(point)}<br>"
        f"{describe(point.schedule)}<br>"
        f"learning rate {point.learning_rate:.2e}, batch size {point.batch_size:.0f}, {point.train_seconds:.1f} s"
    )
