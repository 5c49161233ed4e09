"""Choosing a budget: which schedule to train with, what to expect of it, and the file to take along."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.frontier import candidates, knee
from explorer.frontier.choice import schedule_with_provenance
from explorer.frontier.comparison import BudgetComparison
from explorer.frontier.curve import MetricCurve
from explorer.frontier.prediction import PLAN_TOLERANCE
from explorer.frontier.trials import metric_of
from explorer.frontier.untrained import neighbour, prediction_at
from explorer.ledger import KINDS, Kind, SweepHeader
from explorer.report.frontier_data import FrontierData
from explorer.report.headline import verdict_text
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.panels.panel import Panel
from explorer.report.panels.timeline import bar_arrays, schedule_figure, stage_bars, stage_shares, step_amount
from explorer.report.payload import ChooserPayload, PositionPayload, Result, SchedulePayload, StagePayload
from explorer.report.trained_on import data_text
from explorer.spec.budget import SECONDS, Budget, Unit
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.metric import MetricSpec
from explorer.spec.rates import Axis, shown_axes
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable

POSITIONS = 80
"""Approximate number of budgets to choose from between the smallest and the largest measured one."""
TIMES = tuple(number / 100 for number in range(101))
"""Budget times at which the learning rate is drawn."""
EPOCHS_CELL = "{epochs}"
"""In a schedule's table: the cell that the script fills with the number of epochs at the chosen budget."""
STAGE_COLUMNS = ("share of the budget", "epochs", "cost of a step", "learning rate")

Interval = tuple[float | None, float | None, float | None]
"""Mean test score, lower and upper bound of its 95 % interval; `None` if not known."""

NOT_KNOWN: Interval = (None, None, None)


@dataclass(frozen=True)
class ChooserData:
    """The panel: what the script shows at each position, and the schedule that is drawn first."""

    payload: ChooserPayload
    first_stages: pd.DataFrame
    """Bars of the cheapest budget's schedule, as `stage_bars` returns."""
    task: str
    """What the results were measured with."""
    metric: str
    """What was measured."""


def chooser_data(sweep: LoadedSweep) -> ChooserData:
    """Everything the page needs to show any budget and any schedule."""
    data, header = sweep.data, sweep.header
    lr_schedule = header.space.task.recipe.lr_schedule
    axes = shown_axes({stage.rates for stages in data.runs.stages for stage in stages})
    runs = dict(tuple(data.runs.groupby("candidate")))
    schedules = {
        str(row["id"]): _schedule(row, runs[row["id"]], header, lr_schedule, axes, sweep.step_times)
        for _, row in candidates(sweep.trials).iterrows()
    }
    positions = _positions(sweep, schedules)
    payload = ChooserPayload(
        schedules=schedules,
        positions=tuple(positions),
        start=_start(data, positions),
        times=TIMES,
        factors=tuple(lr_schedule.factor(time) for time in TIMES),
        rerun="{run} (a repeat of {candidate})",
        command=f"explorer train --schedule {{file}} --task {shlex.quote(f'{header.name}.yaml')} --budget {{budget}}",
    )
    task = header.space.task
    measured_with = f"{task.model.name} on {data_text(task.data)}; full training is {task.recipe.epochs:g} epochs"
    return ChooserData(payload, stage_bars(data.winners.iloc[0].stages, axes), measured_with, data.metric.label)


def chooser_figure(data: ChooserData) -> go.Figure:
    """The schedule of the cheapest budget; the script puts the chosen schedule's numbers into it."""
    return schedule_figure(data.first_stages, TIMES, [0.0] * len(TIMES))


PANEL = Panel(
    name="schedule",
    section="choose",
    data=chooser_data,
    figure=chooser_figure,
    label="Activation rates and learning rate of the chosen schedule over budget time",
    template="chooser.html",
)


def _schedule(
    row: pd.Series[Any],
    runs: pd.DataFrame,
    header: SweepHeader,
    lr_schedule: LearningRateSchedule,
    axes: tuple[Axis, ...],
    table: StepTimeTable | None,
) -> SchedulePayload:
    """A candidate with its settings, bars, table and file; `runs` are its own."""
    bars, metric = stage_bars(row["stages"], axes), metric_of(runs)
    name, seeds = str(row["id"]), int(row["seeds"])
    staging = [f"{setting} {value}" for setting, value in runs.staging.iloc[0].items()]
    decay = runs.lr_schedule.iloc[0]
    if decay is not None:
        lr_schedule = lr_schedule.model_copy(update={"kind": decay})
        staging = [f"{decay} learning-rate schedule", *staging]
    if (optimizer := runs.optimizer.iloc[0]) is not None:
        staging = [optimizer.name, *staging]
    at_budget = lr_schedule.at_budget(row["cost"])
    test = _interval(row)
    kind = "staged schedule" if row["kind"] == "staged" else "baseline, the full model throughout"
    return SchedulePayload(
        id=name,
        kind=row["kind"],
        budget=row["budget"],
        title=f"{name}: {kind}",
        settings=f"LR {_short(row['learning_rate'])}",
        other_settings=", ".join([f"batch size {int(row['batch_size'])}", *staging]),
        result=_result(test, metric),
        when_clicked=(
            f"You clicked {{run}}. The test {metric.label} of its schedule is the mean of {seeds} "
            f"seed{'s' if seeds > 1 else ''}, next to the best of the other kind at {row['budget']}."
        ),
        file_name=f"{header.name}-{name}.json",
        learning_rate=row["learning_rate"],
        batch_size=int(row["batch_size"]),
        bars=bar_arrays(bars),
        y=tuple(bars.axis),
        columns=("stage", *axes, *STAGE_COLUMNS),
        stages=tuple(_stages(row, header.space.task.recipe.epochs, at_budget, axes)),
        seeds=seeds,
        test=test,
        validation=row["validation_mean"],
        factors=None if decay is None and at_budget is lr_schedule else tuple(at_budget.factor(time) for time in TIMES),
        file=schedule_with_provenance(row, runs, header, table).to_dict(),
    )


def _stages(
    row: pd.Series[Any], epochs: float, lr_schedule: LearningRateSchedule, axes: tuple[Axis, ...]
) -> list[StagePayload]:
    shares, start = stage_shares(row["stages"]), 0.0
    stages = []
    full_cost = step_amount(row["stages"][-1])
    for number, (stage, share) in enumerate(zip(row["stages"], shares, strict=True), start=1):
        end = min(1.0, start + share)
        rates = tuple(f"{getattr(stage.rates, axis):.3g}" for axis in axes)
        factors = (lr_schedule.factor(start), *lr_schedule.peak_within(start, end), lr_schedule.factor(end))
        learning_rates = " > ".join(_short(factor * row["learning_rate"]) for factor in factors)
        cost_of_step = step_amount(stage) / full_cost
        stages.append(
            StagePayload(
                cells=(str(number), *rates, f"{share:.0%}", EPOCHS_CELL, f"{cost_of_step:.0%}", learning_rates),
                rates=rates,
                share=share,
                # Cheaper steps see more images for the same cost, and so do steps of larger batches.
                epochs=share * epochs / cost_of_step * stage.batch_factor,
                step=cost_of_step,
                factors=factors,
            )
        )
        start += share
    return stages


def _positions(sweep: LoadedSweep, schedules: Mapping[str, SchedulePayload]) -> list[PositionPayload]:
    """One position per budget, from the cheapest: the measured ones, those between, and those above that are predicted."""
    data = sweep.data
    winners = data.winners.sort_values("cost").reset_index(drop=True)
    cheapest = sweep.header.space.budgets[0]
    unit = cheapest.unit
    scale = _full_training(data, sweep.header.space, unit)
    last = winners.iloc[-1]
    end = data.shown_to(last.kind) if last.kind in data.predicted else float(last.cost)
    amounts = _round_amounts(winners, scale, end, unit)
    cost_M = np.array([amount / scale for amount in amounts]).clip(min=winners.cost.iloc[0])
    expected_at = {kind: _expected(data, kind, cost_M) for kind in data.between}
    positions = []
    for number, (amount, cost) in enumerate(zip(amounts, cost_M, strict=True)):
        winner, budget = neighbour(winners, float(cost)), replace(cheapest, amount=amount)
        expected = {kind: _known(values_M3[number]) for kind, values_M3 in expected_at.items()}
        position = _position(budget, float(cost), winner, expected, sweep, schedules)
        predicted = data.predicted.get(winner.kind)
        if predicted is not None and expected[winner.kind][0] is not None:
            file = prediction_at(predicted, budget, float(cost)).model_dump(mode="json")
            position = replace(position, prediction=file)
        positions.append(position)
    for _, winner in winners.iterrows():
        at_budget = data.curves[data.curves.budget == winner.budget]
        measured: dict[Kind, Interval] = {row["kind"]: _interval(row) for _, row in at_budget.iterrows()}
        budget = Budget.parse(winner.budget)
        position = _position(budget, float(winner.cost), winner, measured, sweep, schedules, measured=True)
        verdict = next((_verdict(each) for each in data.comparisons if each.budget == budget), "")
        positions.append(replace(position, basis=position.basis + verdict))
    return sorted(positions, key=lambda position: (position.cost, not position.measured))


def _position(
    budget: Budget,
    cost: float,
    winner: pd.Series[Any],
    expected: dict[Kind, Interval],
    sweep: LoadedSweep,
    schedules: Mapping[str, SchedulePayload],
    *,
    measured: bool = False,
) -> PositionPayload:
    """A budget, with a schedule to use there and what to expect of both kinds."""
    predicted = () if measured else tuple(sweep.data.predicted)
    costs = sweep.data.costs_at(winner.kind, [cost])
    in_units = {unit.key: float(unit.amounts(costs)[0]) for unit in sweep.units}
    return PositionPayload(
        label=str(budget),
        argument=shlex.quote(str(budget)),
        cost=cost,
        measured=measured,
        schedule=winner.id,
        near=winner.budget,
        x=in_units,
        expected=expected,
        result={kind: _result(expected.get(kind, NOT_KNOWN), sweep.data.metric, kind in predicted) for kind in KINDS},
        basis=_basis(winner.budget, schedules[winner.id], measured, sweep.data),
        cost_text=sweep.units[0].text(cost),
        other_costs=", ".join(unit.text(in_units[unit.key]) for unit in sweep.units[1:]),
    )


def _verdict(comparison: BudgetComparison) -> str:
    """What is decided at a measured budget, as a sentence."""
    if comparison.verdict == "undecided":
        text = verdict_text(comparison)
        return f" Staged and baseline training are {text}." if comparison.has_intervals else f" {text.capitalize()}."
    return f" Staged training is {comparison.verdict} here: the 95 % intervals are apart."


def _basis(budget: str, schedule: SchedulePayload, measured: bool, data: FrontierData) -> str:
    """What the numbers at a position are based on."""
    baseline = (
        f" The schedule is the baseline's, which has the {data.metric.better} validation {data.metric.label}."
        if schedule.kind == "baseline"
        else ""
    )
    if measured:
        seeds = f"mean of {schedule.seeds} fresh seeds" if schedule.seeds > 1 else "one seed"
        return f"Measured at this budget, {seeds}.{baseline}"
    if schedule.kind in data.predicted:
        trained = len(data.between[schedule.kind].costs)
        return (
            f"Predicted from {trained} trained budgets, by laws of error against cost; not trained here. The schedule is that "
            f"of {budget}.{baseline}"
        )
    return (
        "Interpolated between measured budgets (monotone cubic over the logarithm of cost, through means that are "
        f"made never worse at a higher cost); the schedule is that of {budget}.{baseline}"
    )


def _full_training(data: FrontierData, space: SearchSpace, unit: Unit) -> float:
    """Full training in the unit of the budgets."""
    if unit == "money":
        return data.full_cost / 3600 * (space.price or math.nan)
    return 1 if unit == "fraction" else data.full_cost


def _round_amounts(winners: pd.DataFrame, scale: float, end: float, unit: Unit) -> list[float]:
    """Amounts of two digits from the cheapest measured budget to a cost, evenly spaced over the logarithm."""
    low, high = winners.cost.iloc[0] * scale, end * scale
    rounded = set()
    for amount in np.geomspace(low, high, POSITIONS):
        hours = unit == "device-seconds" and amount >= SECONDS["hour"]  # as texts of budgets have it
        shown_in = SECONDS["hour"] if hours else 1
        rounded.add(float(f"{amount / shown_in:.2g}") * shown_in)
    measured = winners.cost.to_numpy(float) * scale
    return sorted(amount for amount in rounded if low < amount <= high and (np.abs(amount / measured - 1) > 0.01).all())


def _expected(data: FrontierData, kind: Kind, cost_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, low and high of a kind at each cost, (M, 3): predicted, or else interpolated; NaN where there is neither."""
    if (predicted := data.predicted.get(kind)) is None:
        return _between(data.between[kind], cost_M)
    expected_M3 = np.full((len(cost_M), 3), np.nan)
    smallest = predicted.deviation.measured.costs[0] * (1 - PLAN_TOLERANCE)
    within = (cost_M >= smallest) & (cost_M <= data.shown_to(kind) * (1 + PLAN_TOLERANCE))
    if within.any():
        expected_M3[within] = np.stack(predicted.at(cost_M[within]), axis=1)
    return expected_M3


def _between(curve: MetricCurve, cost_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, low and high at each cost, (M, 3); NaN outside the curve's own range.

    Plans of one budget end up to a step below it, each at its own cost: costs within `PLAN_TOLERANCE` of the range count as its
    end.
    """
    expected_M3 = np.full((len(cost_M), 3), np.nan)
    smallest, largest = curve.costs[0], curve.costs[-1]
    within = (cost_M >= smallest * (1 - PLAN_TOLERANCE)) & (cost_M <= largest * (1 + PLAN_TOLERANCE))
    if within.any():
        expected_M3[within] = np.stack(curve.at(cost_M[within].clip(smallest, largest)), axis=1)
    return expected_M3


def _start(data: FrontierData, positions: list[PositionPayload]) -> int:
    """The position of the knee of the winners, or of the middle one."""
    winners = data.winners.sort_values("cost").reset_index(drop=True)
    bend = knee(winners.cost, winners.test_mean)
    chosen = winners.budget.iloc[bend if bend is not None else len(winners) // 2]
    return next(number for number, position in enumerate(positions) if position.measured and position.label == chosen)


def _interval(row: pd.Series[Any]) -> Interval:
    return _known(row[["test_mean", "test_low", "test_high"]].to_numpy(float))


def _known(values: NDArray[np.float64]) -> Interval:
    mean, low, high = (None if np.isnan(value) else float(value) for value in values)
    return mean, low, high


def _result(interval: Interval, metric: MetricSpec, predicted: bool = False) -> Result:
    mean, low, high = interval
    if mean is None:
        return Result("not predicted" if predicted else "not measured", "")
    spread = "no interval" if low is None or high is None else f"95 % interval {metric.interval_text(low, high)}"
    return Result(metric.score_text(mean), f"predicted, {spread}" if predicted else spread)


def _short(value: float) -> str:
    """A learning rate in few characters: `0.0125`, `1.0e-3`."""
    if value < 1e-12:  # the end of a schedule, but for rounding
        return "0"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.1e}".replace("e-0", "e-")
