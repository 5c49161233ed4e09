"""Choosing a budget: which schedule to train with, what accuracy to expect, and the file to take along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.frontier import knee
from explorer.frontier.choice import schedule_with_provenance
from explorer.frontier.curve import AccuracyCurve
from explorer.ledger import Kind, SweepHeader
from explorer.report.frontier_panel import FrontierData
from explorer.report.timeline_panel import bar_arrays, schedule_figure, stage_bars
from explorer.report.units import CostUnit, seconds_at
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Axis, shown_axes

STEPS = 80
"""About so many budgets can be chosen between the smallest and the largest measured one."""
STEP = 0.05
"""Plans of one budget differ in cost by less than this share of it."""
TIMES = tuple(number / 100 for number in range(101))
"""Budget times at which the learning rate is drawn."""


def chooser_data(data: FrontierData, candidates: pd.DataFrame, header: SweepHeader, units: list[CostUnit]) -> dict[str, Any]:
    """Everything the page needs to show any budget and any schedule, as plain data.

    Args:
        data: of the frontier panel.
        candidates: as `explorer.frontier.candidates` gives.
        header: of the sweep.
        units: of the report.

    Returns:
        `schedules` by candidate id, `positions` of the slider from the cheapest (see `_position`), `start`, the index of the
        position to begin with, and `factors`, the learning rate over its peak at `times`.
    """
    curve = header.space.task.recipe.lr_schedule
    positions = _positions(data, units)
    runs, axes = dict(tuple(data.runs.groupby("candidate"))), _axes(data)
    return {
        "schedules": {str(row["id"]): _schedule(row, runs[row["id"]], header, curve, axes) for _, row in candidates.iterrows()},
        "positions": positions,
        "start": _start(data, positions),
        "times": list(TIMES),
        "factors": [curve.factor(time) for time in TIMES],
    }


def chooser_figure(data: FrontierData) -> go.Figure:
    """The schedule of the first winner; the page puts the chosen one's numbers into it."""
    stages = data.winners.iloc[0].stages
    return schedule_figure(stage_bars(stages, _axes(data)), TIMES, [0.0] * len(TIMES))


def _axes(data: FrontierData) -> tuple[Axis, ...]:
    return shown_axes({stage.rates for stages in data.runs.stages for stage in stages})


def _schedule(
    row: pd.Series, runs: pd.DataFrame, header: SweepHeader, curve: LearningRateSchedule, axes: tuple[Axis, ...]
) -> dict[str, Any]:
    """A candidate: its settings, bars, stages as a table, and its file; `runs` are its own."""
    bars = stage_bars(row["stages"], axes)
    full_step = row["stages"][-1].step_flops
    epochs = header.space.task.recipe.epochs
    budget_share, start = sum(stage.flops for stage in row["stages"]), 0.0
    stages = []
    for stage in row["stages"]:
        share = stage.flops / budget_share
        end = min(1.0, start + share)
        stages.append(
            {
                "rates": [f"{getattr(stage.rates, axis):.3g}" for axis in axes],
                "share": share,
                # Epochs at a cost of 1: cheaper steps see more images for the same cost.
                "epochs": share * epochs * full_step / stage.step_flops,
                "step": stage.step_flops / full_step,
                "factors": [curve.factor(start), *curve.peak_within(start, end), curve.factor(end)],
            }
        )
        start += share
    settings = [f"{name} {value}" for name, value in runs.staging.iloc[0].items()]
    return {
        "id": row["id"],
        "kind": row["kind"],
        "budget": row["budget"],
        "learning_rate": row["learning_rate"],
        "batch_size": int(row["batch_size"]),
        "staging": ", ".join(settings),
        "axes": list(axes),
        "bars": bar_arrays(bars),
        "y": list(bars.axis),
        "stages": stages,
        "seeds": int(row["seeds"]),
        "test": [_plain(row[name]) for name in ("test_mean", "test_low", "test_high")],
        "validation": row["validation_mean"],
        "file": schedule_with_provenance(row, runs, header).to_dict(),
    }


def _positions(data: FrontierData, units: list[CostUnit]) -> list[dict[str, Any]]:
    """One entry a budget, measured ones and those between; see `_position`."""
    winners = data.winners.sort_values("cost").reset_index(drop=True)
    full_flops = int(data.runs.full_flops.iloc[0])
    in_flops = not winners.budget.str.endswith("%").any()
    budgets = _round_budgets(winners, full_flops, in_flops)
    cost_M = np.array([amount / full_flops if in_flops else amount for amount in budgets])
    cost_M = cost_M.clip(winners.cost.iloc[0], winners.cost.iloc[-1])
    between = {kind: _between(curve, cost_M) for kind, curve in data.between.items()}
    positions = []
    for number, (amount, cost) in enumerate(zip(budgets, cost_M, strict=True)):
        label = str(Budget(amount, "FLOPs" if in_flops else "fraction"))
        winner = winners.loc[np.abs(np.log(winners.cost) - np.log(cost)).idxmin()]
        expected = {kind: [_plain(value) for value in values[number]] for kind, values in between.items()}
        positions.append(_position(label, float(cost), winner, expected, False, data, units))
    for _, winner in winners.iterrows():
        here = data.curves[data.curves.budget == winner.budget]
        measured = {row.kind: [_plain(v) for v in (row.test_mean, row.test_low, row.test_high)] for row in here.itertuples()}
        positions.append(_position(winner.budget, float(winner.cost), winner, measured, True, data, units))
    return sorted(positions, key=lambda position: (position["cost"], not position["measured"]))


def _position(
    label: str,
    cost: float,
    winner: pd.Series,
    expected: Mapping[Kind, list[float | None]],
    measured: bool,
    data: FrontierData,
    units: list[CostUnit],
) -> dict[str, Any]:
    """A budget as plain data.

    Its label and cost (in `x` in every unit), the schedule to use, the measured budget near by at which that was found, and
    what to expect of staged and baseline training: mean, low, high.
    """
    seconds = seconds_at(data.curves[data.curves.kind == winner.kind], [cost])
    flops = cost * data.runs.full_flops.iloc[0]
    table = pd.DataFrame({"cost": [cost], "planned_flops": [flops], "train_seconds": seconds})
    return {
        "label": label,
        "cost": cost,
        "measured": measured,
        "schedule": winner.id,
        "near": winner.budget,
        "x": {unit.key: float(unit.amounts(table)[0]) for unit in units},
        "expected": expected,
    }


def _round_budgets(winners: pd.DataFrame, full_flops: int, in_flops: bool) -> list[float]:
    """Budgets of two digits between the measured ones, evenly spread over the logarithm."""
    scale = full_flops if in_flops else 1
    low, high = winners.cost.iloc[0] * scale, winners.cost.iloc[-1] * scale
    rounded = {float(f"{amount:.2g}") for amount in np.geomspace(low, high, STEPS)}
    taken = np.array([winner.cost * scale for winner in winners.itertuples()])
    return sorted(amount for amount in rounded if low < amount < high and (np.abs(amount / taken - 1) > 0.01).all())


def _between(curve: AccuracyCurve, cost_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, low and high at each cost; NaN outside the curve's own range.

    Plans of one budget end up to a step below it, each at its own cost: that little beyond the range counts as its end.
    """
    found_M3 = np.full((len(cost_M), 3), np.nan)
    smallest, largest = curve.costs[0], curve.costs[-1]
    within = (cost_M >= smallest * (1 - STEP)) & (cost_M <= largest * (1 + STEP))
    if within.any():
        found_M3[within] = np.stack(curve.at(cost_M[within].clip(smallest, largest)), axis=1)
    return found_M3


def _start(data: FrontierData, positions: list[dict[str, Any]]) -> int:
    """The knee of the winners, or the middle one."""
    winners = data.winners.sort_values("cost").reset_index(drop=True)
    bend = knee(winners.cost, winners.test_mean)
    chosen = winners.budget[bend if bend is not None else len(winners) // 2]
    return next(number for number, p in enumerate(positions) if p["measured"] and p["label"] == chosen)


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
