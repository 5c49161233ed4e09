"""Warm starts: how the winners of earlier sweeps (`search.from`) are written in the variables of a search.

What a search space cannot say is changed to what is nearest in it: rates to the nearest levels, durations to the grid, and
stages that are too many are joined. A learning rate, with its batch size and the kind of its learning-rate schedule, is taken
over only where the earlier sweep trained the same task and the search can propose all three; never from one task to another.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.errors import InvalidInput
from explorer.ledger import OtherTrial
from explorer.ledger.earlier_sweeps import EarlierSweep, Winner
from explorer.ledger.spending import budget_costs
from explorer.search.proposal import variables_of
from explorer.search.trial_plan import full_training_plan
from explorer.spec.budget import Budget
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_settings import SearchSettings
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.task import TaskSpec

MAX_AT_BUDGET = 2
"""Warm starts that are tried at a budget: more of them would leave no trials for what the search finds itself."""
SAME_RATE = 1e-6
"""Relative difference up to which a learning rate is one of the grid."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """A schedule of an earlier sweep, as a trial of this one."""

    origin: OtherTrial
    budget: Budget
    """The budget at which it is tried."""
    variables: dict[str, Any]
    """The variables of the schedule."""
    tuned: dict[str, Any] | None
    """Those of learning rate, batch size and learning-rate schedule, which are taken over too; `None` if they are not."""


@dataclass(frozen=True, kw_only=True)
class WarmStarts:
    """The warm starts of a sweep."""

    on_target: tuple[WarmStart, ...] = ()
    """Those that are tried on the sweep's own task."""
    on_proxy: tuple[WarmStart, ...] = ()
    """Those that are tried on the cheapest proxy, from which the best are promoted."""
    lines: tuple[str, ...] = ()
    """What is taken, changed and left out, one line for each winner."""


def warm_starts(
    space: SearchSpace,
    sweeps: Sequence[EarlierSweep],
    table: StepTimeTable | None = None,
    *,
    untrained: Collection[Budget] = (),
) -> WarmStarts:
    """The winners of earlier sweeps as trials of a search, and what to say about them.

    Each winner is tried at the trained budget that is nearest to its own share of full training, by their ratio. Those that
    trained the same task are tried on it; all others on the first task of the sweep: its cheapest proxy, if there is one.

    Args:
        space: the search space.
        sweeps: the earlier sweeps. Where there is no place for all winners at a budget, the earlier ones in the list and those
            with the nearest budgets come first.
        table: the sweep's step times, without which a sweep with budgets in time or money starts at its cheapest budget.
        untrained: budgets that a spending limit leaves out on the target.

    Raises:
        InvalidInput: when nothing of an earlier sweep fits.
    """
    shares = _budget_shares(space, table) if sweeps else {}
    of_target = {budget: share for budget, share in shares.items() if budget not in untrained}
    on_proxy = space.proxy_space(1) if space.proxy else space
    of_proxy = {budget: share for budget, share in shares.items() if on_proxy.trials_at(budget, "staged")} or shares
    chosen: dict[bool, list[WarmStart]] = {True: [], False: []}
    lines: list[str] = []
    for sweep in sweeps:
        fits = False
        for winner in sorted(sweep.winners, key=lambda winner: _ratio(winner, shares[_nearest(winner, shares)])):
            on_target = winner.same_task or not space.proxy
            label, budget = f"search.from: {sweep.name}: {winner.trial}", _nearest(winner, of_target if on_target else of_proxy)
            has_fractions = all(isinstance(getattr(s.rates, axis), float) for s in winner.schedule.stages for axis in AXES)
            if not has_fractions:
                lines.append(f"{label} is left out: its rates are not fractions")
                continue
            if (fitted := fit(space.search, winner, space.task)) is None:
                lines.append(f"{label} is left out: with the rates of this search it is the full model throughout")
                continue
            fits = True
            there = [start for start in chosen[on_target] if start.budget == budget]
            if fitted.variables in [start.variables for start in there]:
                lines.append(f"{label} is left out: another winner is the same schedule at {budget}")
            elif len(there) == MAX_AT_BUDGET:
                lines.append(f"{label} is left out: {MAX_AT_BUDGET} are tried at {budget} already")
            else:
                origin = OtherTrial(sweep=sweep.name, trial=winner.trial)
                chosen[on_target].append(
                    WarmStart(origin=origin, budget=budget, variables=fitted.variables, tuned=fitted.tuned)
                )
                where = f"at {budget}" if on_target else f"at {budget} of proxy 1"
                lines.append(f"{label} is tried {where}: {'; '.join(fitted.changes)}")
        if not fits:
            reason = "nothing of it fits: with the rates of this search, its winners train the full model throughout"
            raise InvalidInput("search.from", sweep.name, reason)
        if sweep.currency != space.currency:
            lines.append(f"search.from: {sweep.name}: durations are shares of another currency there, and taken as they are")
    return WarmStarts(on_target=tuple(chosen[True]), on_proxy=tuple(chosen[False]), lines=tuple(lines))


@dataclass(frozen=True, kw_only=True)
class FittedWinner:
    """A winner in the variables of a search."""

    schedule: Schedule
    variables: dict[str, Any]
    """The variables of the schedule."""
    tuned: dict[str, Any] | None
    """As for `WarmStart`."""
    changes: tuple[str, ...]
    """What differs from the winner, in words."""


def fit(search: SearchSettings, winner: Winner, task: TaskSpec) -> FittedWinner | None:
    """A winner as a search can propose it; `None` if its schedule would train the full model throughout.

    Args:
        search: the settings of the search.
        winner: the winner; its rates are fractions.
        task: the task, which has the settings that are not searched.
    """
    schedule, changes = fitted_schedule(search, winner.schedule)
    if schedule.stages[0].rates.full:
        return None
    variables: dict[str, Any] = {}
    own_staging = task.staging.model_dump()
    for setting, value in winner.staging.items():
        listed = search.staging.listed.get(setting)
        here = value if listed and value in listed else (listed or (own_staging[setting],))[0]
        if listed:
            variables[f"staging_{setting}"] = here
        if here != value:
            changes.append(f"{setting} {here} for {value}")
    durations_and_rates = variables_of(search, schedule)
    assert durations_and_rates is not None, schedule
    tuned, reason = _tuned(search, winner, task)
    changes.append("with its learning rate and batch size" if tuned else f"without its learning rate and batch size: {reason}")
    return FittedWinner(schedule=schedule, variables=variables | durations_and_rates, tuned=tuned, changes=tuple(changes))


def fitted_schedule(search: SearchSettings, schedule: Schedule) -> tuple[Schedule, list[str]]:
    """The nearest schedule that a search can propose, and what was changed, in words.

    Rates become the nearest levels, the higher ones where two are equally near; where rates are tied, those at the position
    with the smallest sum of differences over the axes. Of too many stages, the shortest is joined with the one after it.
    """
    changes: list[str] = []
    if any(not stage.augmentation.full or stage.batch_factor != 1 for stage in schedule.stages):
        changes.append("without its augmentation and batch factors by stage")
    rates = [_nearest_rates(search, stage.rates) for stage in schedule.stages]
    for axis in AXES:
        pairs = [(getattr(stage.rates, axis), getattr(near, axis)) for stage, near in zip(schedule.stages, rates, strict=True)]
        if moved := dict.fromkeys(f"{before:g} to {after:g}" for before, after in pairs if before != after):
            changes.append(f"{axis} {', '.join(moved)}")
    before = [stage.share for stage in schedule.stages]
    shares, rates = _joined(list(before), rates, search.stages)
    if len(shares) < len(before):
        changes.append(f"{len(shares)} stages for {len(before)}")
    stages = tuple(Stage(rates=each, duration_ratio=share) for each, share in zip(rates, shares, strict=True))
    slots = Schedule(stages=stages, grid=search.grid).slots()
    if any(abs(share - count / search.grid) > 1e-6 for share, count in zip(shares, slots, strict=True)):
        changes.append(f"durations on a grid of 1/{search.grid}")
    kept = [(each, count) for each, count in zip(rates, slots, strict=True) if count]
    stages = tuple(Stage(rates=each, duration_ratio=count / search.grid) for each, count in kept)
    return Schedule(stages=stages, grid=search.grid), changes


def _nearest_rates(search: SearchSettings, rates: Rates) -> Rates:
    positions: dict[Axis, int] = dict.fromkeys(AXES, 0)  # of axes with one level, which is 1
    searched = search.rates.searched
    for axes in [searched] if search.tied else [(axis,) for axis in searched]:
        count = len(getattr(search.rates, axes[0]))

        def distance(position: int, axes: tuple[Axis, ...] = axes) -> float:
            return sum(abs(getattr(search.rates, axis)[position] - getattr(rates, axis)) for axis in axes)

        nearest = min(reversed(range(count)), key=lambda position: round(distance(position), 9))
        positions |= dict.fromkeys(axes, nearest)
    return search.rates_at(positions)


def _joined(shares: list[float], rates: list[Rates], count: int) -> tuple[list[float], list[Rates]]:
    """Join neighbours with equal rates, and then the shortest stage with the one after it until there are few enough."""
    number = 0
    while number + 1 < len(shares):
        if rates[number] == rates[number + 1] or not shares[number]:
            share = shares.pop(number)
            shares[number] += share
            del rates[number]
        else:
            number += 1
    while len(shares) > count:
        shortest = shares.index(min(shares[:-1]))
        share = shares.pop(shortest)
        shares[shortest] += share
        del rates[shortest]
    return shares, rates


def _tuned(search: SearchSettings, winner: Winner, task: TaskSpec) -> tuple[dict[str, Any] | None, str]:
    """The variables that do not describe the schedule; `None`, and why they are not taken over."""
    if not winner.same_task:
        return None, "another task"
    low, high = search.learning_rate
    values: dict[str, Any] = {"batch_size": winner.batch_size}
    optimizer = winner.optimizer or task.recipe.optimizer
    if optimizer not in (search.optimizer or (task.recipe.optimizer,)):
        return None, f"optimizer {optimizer} is not searched"
    if search.optimizer:
        values["optimizer"] = optimizer
    learning_rate = winner.learning_rate / search.optimizer.get(optimizer, 1.0)
    if winner.batch_size not in search.batch_size:
        return None, f"batch size {winner.batch_size} is not searched"
    if search.learning_rate_grid:
        equal = [math.isclose(rate, learning_rate, rel_tol=SAME_RATE) for rate in search.learning_rates()]
        if not any(equal):
            return None, f"learning rate {winner.learning_rate:.4g} is not on the grid"
        values["learning_rate_step"] = equal.index(True)
    elif not low <= learning_rate <= high:
        return None, f"learning rate {winner.learning_rate:.4g} is not within {low:g} and {high:g}"
    else:
        values["learning_rate"] = learning_rate
    if winner.lr_schedule not in (search.lr_schedule or (task.recipe.lr_schedule.kind,)):
        return None, f"learning-rate schedule {winner.lr_schedule} is not searched"
    if search.lr_schedule:
        values["lr_schedule"] = winner.lr_schedule
    return values, ""


def _budget_shares(space: SearchSpace, table: StepTimeTable | None) -> dict[Budget, float]:
    """The budgets of a space as shares of full training; without the step times that they need, the cheapest one alone."""
    if space.budgets[0].unit == "fraction":
        return {budget: budget.amount for budget in space.budgets}
    if space.currency == "device_seconds" and table is None:
        return {space.budgets[0]: 1.0}
    plan = full_training_plan(space, table)
    full = plan.full_flops if space.currency == "flops" else (plan.full_seconds or 0.0)
    return budget_costs(space, full)


def _ratio(winner: Winner, share: float) -> float:
    """How far a winner's budget is from a share of full training, as a logarithm."""
    return round(abs(math.log(winner.share / share)), 9)


def _nearest(winner: Winner, shares: Mapping[Budget, float]) -> Budget:
    """The budget that is nearest to a winner's; the cheaper one of two."""
    return min(shares, key=lambda budget: _ratio(winner, shares[budget]))
