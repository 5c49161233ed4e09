"""The frontier panel: accuracy against cost, staged against baseline. First the numbers, then the drawing."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.frontier import AccuracyCurve, best_by_budget, non_dominated
from explorer.frontier.curve import Match
from explorer.frontier.trials import describe
from explorer.ledger import KINDS, Kind
from explorer.report.palette import AXIS, BASELINE, LAYOUT, STAGED, faded
from explorer.report.units import CostUnit, seconds_at

NAMES = {"staged": "staged schedules", "baseline": "full model, same recipe"}
FULL_TRAINING = 0.99
"""From this cost on a run counts as full training: a plan ends up to a step below its budget."""


@dataclass(frozen=True)
class FrontierData:
    """What the panel draws. Accuracies are shares in [0, 1], costs fractions of full training."""

    curves: pd.DataFrame
    """The best of each kind at each budget; `best_by_budget`'s columns and `on_frontier`."""
    runs: pd.DataFrame
    """Every completed run; `dominated` within its kind."""
    between: dict[Kind, AccuracyCurve]
    """What to expect between the measured budgets, for each kind that was trained."""
    match: Match | None
    """Cost at which staging reaches the full model's accuracy at the end of its full training; none where that is missing."""
    headline: str

    @property
    def winners(self) -> pd.DataFrame:
        """The better of staged and baseline at each budget, on validation data."""
        return self.curves.loc[self.curves.groupby("budget_amount").validation_mean.idxmax()]


def frontier_data(trials: pd.DataFrame) -> FrontierData:
    """Numbers of the panel, from `trials_frame`'s table with a completed trial at least."""
    curves = best_by_budget(trials)
    curves["on_frontier"] = non_dominated(curves.cost, curves.test_mean)
    runs = trials[trials.status == "completed"].copy()
    runs["dominated"] = True
    for kind in KINDS:
        ours = runs.kind == kind
        runs.loc[ours, "dominated"] = ~non_dominated(runs.cost[ours], runs.test_accuracy[ours])
    between = {kind: AccuracyCurve.through(curves[curves.kind == kind]) for kind in KINDS if (curves.kind == kind).any()}
    match = _match(curves, between)
    return FrontierData(curves, runs, between, match, headline(curves, match))


def _match(curves: pd.DataFrame, between: dict[Kind, AccuracyCurve]) -> Match | None:
    full = curves[(curves.kind == "baseline") & (curves.cost >= FULL_TRAINING)]
    if full.empty or "staged" not in between:
        return None
    target = full.loc[full.cost.idxmin()]
    return between["staged"].cost_to_match(target.test_mean, target.test_error, int(target.seeds))


def headline(curves: pd.DataFrame, match: Match | None) -> str:
    """One sentence that is true whichever side wins, from mean test accuracies."""
    staged = curves[curves.kind == "staged"].set_index("budget")
    baseline = curves[curves.kind == "baseline"].set_index("budget")
    both = staged.index.intersection(baseline.index, sort=False)
    if both.empty:
        return "Staged and full-model training have no budget in common yet."
    gains = staged.loc[both, "test_mean"] - baseline.loc[both, "test_mean"]
    seeds = int(min(staged.seeds.min(), baseline.seeds.min()))
    basis = f"means of {seeds} fresh seeds" if seeds > 1 else "one seed each, no interval"
    if not (gains > 0).any():
        return f"At no measured budget does staging help ({basis})."
    best = gains.idxmax()
    most = (
        f"helps most at {best} of full training: {staged.test_mean[best]:.1%} against {baseline.test_mean[best]:.1%}"
        if str(best).endswith("%")
        else f"helps most at {best}: {staged.test_mean[best]:.1%} against {baseline.test_mean[best]:.1%}"
    )
    wins = f"wins at {int((gains > 0).sum())} of {len(gains)} budgets"
    if match is None:
        return f"Staging {most}; it {wins} ({basis})."
    full = baseline[baseline.cost >= FULL_TRAINING].iloc[0]
    if match.cost >= FULL_TRAINING:
        return f"Staging {most}, but does not match full training ({full.test_mean:.1%}) below its cost; it {wins} ({basis})."
    cost, spread = match_text(match, staged.cost)
    sure = f"; 95 % interval {spread}" if spread else ""
    return f"Staging matches full training ({full.test_mean:.1%} test accuracy) at {cost} of its cost ({basis}{sure})."


def match_text(match: Match | None, measured: pd.Series) -> tuple[str, str]:
    """A cost to match in words, and its interval (empty without one): `38%` and `31% to 46%`.

    Args:
        match: to be put in words.
        measured: the costs between which it was looked for.
    """
    if match is None:
        return "not measured", ""
    cost = "not reached" if math.isinf(match.cost) else _percent(match.cost)
    if match.cost <= measured.min():
        cost += " or less"
    if math.isnan(match.low) or math.isinf(match.cost):
        return cost, ""
    low, high = _percent(match.low), _percent(match.high) if math.isfinite(match.high) else f"above {_percent(measured.max())}"
    return cost, f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < FULL_TRAINING else f"{100 * share:.3g}%"


@dataclass(frozen=True)
class TraceStyle:
    """How one sweep's traces look: a colour for each kind and what the legend says before the kind."""

    staged: str = STAGED
    baseline: str = BASELINE
    prefix: str = ""

    def colour(self, kind: Kind) -> str:
        """The kind's colour."""
        return self.staged if kind == "staged" else self.baseline


def frontier_figure(sweeps: list[tuple[FrontierData, TraceStyle]], units: list[CostUnit]) -> go.Figure:
    """Draw the panel in the first unit; each trace's `meta.x` has its costs in all units, by the unit's key."""
    figure = go.Figure()
    for data, look in sweeps:
        for kind, between in data.between.items():
            _add_band(figure, data, kind, between, look, units)
    for data, look in sweeps:
        for kind in data.between:
            ours = data.runs[data.runs.kind == kind]
            _add_runs(figure, ours[ours.dominated], look, 0.13, units)
            _add_runs(figure, ours[~ours.dominated], look, 0.4, units)
    for data, look in sweeps:
        for kind in reversed(list(data.between)):
            _add_curve(figure, data.curves[data.curves.kind == kind], look, units)
    figure.update_layout(LAYOUT, height=480)
    figure.update_xaxes(AXIS, type="log", **units[0].axis)
    figure.update_yaxes(AXIS, title_text="test accuracy", tickformat=".0%")
    return figure


def _add_band(
    figure: go.Figure, data: FrontierData, kind: Kind, between: AccuracyCurve, look: TraceStyle, units: list[CostUnit]
) -> None:
    """The 95 % band of what to expect between the measured budgets."""
    if not between.has_interval or len(between.costs) < 2:
        return
    cost_M = np.geomspace(between.costs[0], between.costs[-1], 60)
    cost_M[-1] = between.costs[-1]
    expected = between.at(cost_M)
    there_and_back = np.concatenate((cost_M, cost_M[::-1]))
    table = pd.DataFrame(
        {
            "cost": there_and_back,
            "planned_flops": there_and_back * data.runs.full_flops.iloc[0],
            "train_seconds": seconds_at(data.curves[data.curves.kind == kind], there_and_back),
        }
    )
    figure.add_scatter(
        x=table.cost,
        y=np.concatenate((expected.high, expected.low[::-1])),
        fill="toself",
        fillcolor=faded(look.colour(kind), 0.12),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        meta={"x": _all_units(table, units)},
    )


def _add_runs(figure: go.Figure, runs: pd.DataFrame, look: TraceStyle, opacity: float, units: list[CostUnit]) -> None:
    if runs.empty:
        return
    kind = runs.kind.iloc[0]
    figure.add_scatter(
        x=runs.cost,
        y=runs.test_accuracy,
        mode="markers",
        marker={"color": look.colour(kind), "size": 6, "opacity": opacity},
        text=[_hover(run) for run in runs.itertuples()],
        customdata=[[run.candidate, run.id] for run in runs.itertuples()],
        hovertemplate="%{text}<extra></extra>",
        name=f"{look.prefix}single runs, {kind}",
        showlegend=False,
        meta={"x": _all_units(runs, units)},
    )


def _add_curve(figure: go.Figure, curve: pd.DataFrame, look: TraceStyle, units: list[CostUnit]) -> None:
    kind = curve.kind.iloc[0]
    figure.add_scatter(
        x=curve.cost,
        y=curve.test_mean,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (curve.test_high - curve.test_mean).fillna(0),
            "arrayminus": (curve.test_mean - curve.test_low).fillna(0),
            "thickness": 1.4,
            "width": 4,
        },
        mode="lines+markers",
        line={"color": look.colour(kind), "width": 2.5, "dash": "solid" if kind == "staged" else "dot"},
        marker={"size": 9, "symbol": "circle" if kind == "staged" else "square"},
        text=[_hover_mean(point) for point in curve.itertuples()],
        customdata=[[point.id] for point in curve.itertuples()],
        hovertemplate="%{text}<extra></extra>",
        name=look.prefix + NAMES[kind],
        meta={"x": _all_units(curve, units)},
    )


def _all_units(table: pd.DataFrame, units: list[CostUnit]) -> dict[str, list[float]]:
    return {unit.key: [float(f"{amount:.6g}") for amount in unit.amounts(table)] for unit in units}


def _hover(row: Any) -> str:
    text = (
        f"<b>{html.escape(row.id)}</b>{', repeat_of with a fresh seed' if row.phase == 'repeat' else ''}<br>"
        f"test {row.test_accuracy:.1%}, validation {row.validation_accuracy:.1%}<br>"
        f"budget {row.budget}: {row.cost:.3%} of full training, {row.planned_flops:.3g} FLOPs<br>{describe(row.schedule)}<br>"
        f"learning rate {row.learning_rate:.2e}, batch {row.batch_size:.0f}, seed {row.seed}<br>"
        f"{row.steps:,.0f} steps, {row.train_seconds:.1f} s on {html.escape(row.device)}"
    )
    settings = ", ".join(f"{key} {value}" for key, value in row.staging.items())
    return f"{text}<br>{html.escape(settings)}" if settings else text


def _hover_mean(row: Any) -> str:
    spread = f" [{row.test_low:.1%}, {row.test_high:.1%}]" if pd.notna(row.test_low) else ""
    return (
        f"<b>test {row.test_mean:.1%}</b>{spread}, {row.seeds} seed{'s' if row.seeds > 1 else ''}<br>"
        f"budget {row.budget}, validation {row.validation_mean:.1%}<br>{describe(row.schedule)}<br>"
        f"learning rate {row.learning_rate:.2e}, batch {row.batch_size:.0f}, {row.train_seconds:.1f} s"
    )
