"""The frontier panel: accuracy against cost, staged against baseline. First the numbers, then the drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.frontier import best_by_budget, non_dominated
from explorer.frontier.trials import describe
from explorer.report.palette import BASELINE, GRID, LAYOUT, MUTED, STAGED

COLOURS = {"staged": STAGED, "baseline": BASELINE}
NAMES = {"staged": "staged schedules", "baseline": "full model, same recipe"}


@dataclass(frozen=True)
class FrontierData:
    """What the panel draws. Accuracies are shares in [0, 1], costs fractions of full training."""

    curves: pd.DataFrame
    """The best of each kind at each budget; `best_by_budget`'s columns and `on_frontier`."""
    trials: pd.DataFrame
    """Every completed run."""
    headline: str


def frontier_data(trials: pd.DataFrame) -> FrontierData:
    """Numbers of the panel, from `trials_frame`'s table."""
    curves = best_by_budget(trials)
    curves["on_frontier"] = non_dominated(curves.cost, curves.test_mean)
    return FrontierData(curves, trials[trials.status == "completed"], headline(curves))


def headline(curves: pd.DataFrame) -> str:
    """One sentence that is true whichever side wins, from mean test accuracies."""
    staged = curves[curves.kind == "staged"].set_index("budget")
    baseline = curves[curves.kind == "baseline"].set_index("budget")
    both = staged.index.intersection(baseline.index)
    if both.empty:
        return "Staged and full-model training have no budget in common yet."
    gains = staged.loc[both, "test_mean"] - baseline.loc[both, "test_mean"]
    seeds = int(min(staged.seeds.min(), baseline.seeds.min()))
    basis = f"means of {seeds} fresh seeds" if seeds > 1 else "one seed each, no interval"
    if not (gains > 0).any():
        return f"At no measured budget does staging help ({basis})."
    top = baseline.loc[baseline.budget_amount.idxmax()]
    matching = staged[staged.test_mean >= top.test_mean]
    if not matching.empty and matching.budget_amount.min() < top.budget_amount:
        first = matching.loc[matching.budget_amount.idxmin()]
        return (
            f"Staging reaches {first.test_mean:.1%} test accuracy at {100 * first.cost:.3g}% of the cost of full training; "
            f"the full model reaches {top.test_mean:.1%} at {100 * top.cost:.3g}% ({basis})."
        )
    best = gains.idxmax()
    return (
        f"Staging helps most at {best} of full training: {staged.test_mean[best]:.1%} against "
        f"{baseline.test_mean[best]:.1%} ({basis}). It wins at {int((gains > 0).sum())} of {len(gains)} budgets "
        f"and does not match the full model's best below its cost."
    )


def frontier_figure(data: FrontierData) -> go.Figure:
    """Draw the panel."""
    figure = go.Figure()
    for kind in ("staged", "baseline"):
        runs = data.trials[data.trials.kind == kind]
        figure.add_scatter(
            x=runs.cost,
            y=runs.test_accuracy,
            mode="markers",
            marker={"color": COLOURS[kind], "size": 5, "opacity": 0.22},
            text=[_hover(run) for run in runs.itertuples()],
            hovertemplate="%{text}<extra>single run</extra>",
            name=f"single runs, {kind}",
            showlegend=False,
        )
    for kind in ("baseline", "staged"):
        curve = data.curves[data.curves.kind == kind]
        figure.add_scatter(
            x=curve.cost,
            y=curve.test_mean,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (curve.test_high - curve.test_mean).fillna(0),
                "arrayminus": (curve.test_mean - curve.test_low).fillna(0),
                "thickness": 1.4,
                "width": 5,
            },
            mode="lines+markers",
            line={"color": COLOURS[kind], "width": 2.5, "dash": "solid" if kind == "staged" else "dot"},
            marker={"size": 9, "symbol": "circle" if kind == "staged" else "square"},
            text=[_hover_mean(point) for point in curve.itertuples()],
            hovertemplate="%{text}<extra></extra>",
            name=NAMES[kind],
        )
    shares = data.curves[data.curves.budget.str.endswith("%")].drop_duplicates("budget")
    figure.update_layout(LAYOUT, height=460, hovermode="closest")
    figure.update_xaxes(
        type="log",
        title="training cost, as a share of full training (counted FLOPs)",
        # Ticks at the sweep's budgets; budgets in FLOPs keep plotly's own.
        tickvals=list(shares.budget_amount) or None,
        ticktext=list(shares.budget) or None,
        gridcolor=GRID,
    )
    figure.update_yaxes(title="test accuracy", tickformat=".0%", gridcolor=GRID, linecolor=MUTED)
    return figure


def _hover(row: Any) -> str:
    return (
        f"{row.id}<br>test {row.test_accuracy:.1%}, validation {row.validation_accuracy:.1%}<br>"
        f"{describe(row.schedule)}<br>learning rate {row.learning_rate:.2e}, batch {row.batch_size:.0f}, seed {row.seed}<br>"
        f"{row.steps:.0f} steps, {row.train_seconds:.1f} s"
    )


def _hover_mean(row: Any) -> str:
    spread = f" [{row.test_low:.1%}, {row.test_high:.1%}]" if pd.notna(row.test_low) else ""
    return (
        f"<b>test {row.test_mean:.1%}</b>{spread}, {row.seeds} seed{'s' if row.seeds > 1 else ''}<br>"
        f"budget {row.budget}, validation {row.validation_mean:.1%}<br>{describe(row.schedule)}<br>"
        f"learning rate {row.learning_rate:.2e}, batch {row.batch_size:.0f}"
    )
