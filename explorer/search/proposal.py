"""From a study's variables to a schedule. Pure functions: the same variables always mean the same trial.

Duration ratios come from stick-breaking with K - 1 variables in [0, 1] for K stages. Each variable goes through the quantile
function of Beta(1, K - i), so that uniform variables give uniform points of the simplex, which are then rounded to the grid.
(The -log(u) of Optuna's FAQ spends K variables on K - 1 degrees of freedom.)

Rates come from one variable in [0, 1] per stage and axis. It picks among the levels up to the level of the next stage, from the
full model backwards, so that rates never fall by construction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from explorer.ledger import Kind
from explorer.spec.budget import Currency
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.recipe import Recipe
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_settings import SearchSettings

OPTIMIZATION_VARIABLES = ("batch_size", "learning_rate", "learning_rate_step", "lr_schedule", "optimizer")
"""Variables that do not transfer from one task to another. All others describe the schedule."""


def schedule_variables(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the schedule alone: durations, rates and settings of `staging`."""
    return {name: value for name, value in parameters.items() if name not in OPTIMIZATION_VARIABLES}


def optimization_variables(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of learning rate, its schedule, batch size and optimizer alone."""
    return {name: value for name, value in parameters.items() if name in OPTIMIZATION_VARIABLES}


def _groups(search: SearchSettings) -> dict[str, tuple[Axis, ...]]:
    """Names of the rate variables, and the axes that each one sets. Axes with one level need no variable."""
    if search.tied:
        return {"rates": search.rates.searched}
    return {axis: (axis,) for axis in AXES if len(getattr(search.rates, axis)) > 1}


def distributions(search: SearchSettings, kind: Kind) -> dict[str, BaseDistribution]:
    """The variables of a study."""
    low, high = search.learning_rate
    variables: dict[str, BaseDistribution] = {"batch_size": CategoricalDistribution(search.batch_size)}
    if search.learning_rate_grid:
        variables["learning_rate_step"] = IntDistribution(0, search.learning_rate_grid - 1)
    else:
        variables["learning_rate"] = FloatDistribution(low, high, log=True)
    if search.lr_schedule:
        variables["lr_schedule"] = CategoricalDistribution(search.lr_schedule)
    if search.optimizer:
        variables["optimizer"] = CategoricalDistribution(tuple(search.optimizer))
    if kind == "staged":
        for setting, values in search.staging.listed.items():
            variables[f"staging_{setting}"] = CategoricalDistribution(values)
        for stage in range(search.stages - 1):
            variables[f"duration_{stage}"] = FloatDistribution(0, 1)
            for group in _groups(search):
                variables[f"{group}_{stage}"] = FloatDistribution(0, 1)
    return variables


def every_setting(search: SearchSettings, kind: Kind) -> list[dict[str, Any]] | None:
    """The variables of every distinct trial; `None` where a variable is continuous, as durations are."""
    low, high = search.learning_rate
    if kind == "staged" or (search.learning_rate_grid is None and low < high):
        return None
    learning_rates: dict[float, dict[str, Any]] = {}
    if search.learning_rate_grid is None:
        learning_rates[low] = {"learning_rate": low}
    for step, learning_rate in enumerate(search.learning_rates()):
        learning_rates.setdefault(learning_rate, {"learning_rate_step": step})
    decays: list[dict[str, Any]] = [{"lr_schedule": kind} for kind in search.lr_schedule] or [{}]
    optimizers: list[dict[str, Any]] = [{"optimizer": name} for name in search.optimizer] or [{}]
    batch_sizes = dict.fromkeys(search.batch_size)
    return [
        {"batch_size": batch_size, **variable, **decay, **optimizer}
        for batch_size, variable, decay, optimizer in itertools.product(
            batch_sizes, learning_rates.values(), decays, optimizers
        )
    ]


def schedule_for(search: SearchSettings, kind: Kind, parameters: Mapping[str, Any]) -> Schedule:
    """The schedule that the variables stand for, on the grid. Stages without duration are left out."""
    if kind == "baseline":
        return Schedule.full_model(search.grid)
    count = search.stages
    left, ratios = 1.0, []
    for stage in range(count - 1):
        piece = 1 - (1 - parameters[f"duration_{stage}"]) ** (1 / (count - 1 - stage))
        ratios.append(left * piece)
        left -= ratios[-1]
    ratios.append(1 - sum(ratios))

    positions = {axis: len(getattr(search.rates, axis)) - 1 for axis in AXES}
    stages = [Stage(rates=Rates(), duration_ratio=max(0.0, ratios[-1]))]
    for stage in reversed(range(count - 1)):
        for group, axes in _groups(search).items():
            choices = positions[axes[0]] + 1
            chosen = min(int(parameters[f"{group}_{stage}"] * choices), choices - 1)
            positions.update(dict.fromkeys(axes, chosen))
        stages.insert(0, Stage(rates=search.rates_at(positions), duration_ratio=ratios[stage]))
    return _merged(stages, search.grid)


def learning_rate_for(search: SearchSettings, parameters: Mapping[str, Any]) -> float:
    """The peak learning rate that the variables stand for, of the optimizer that they stand for."""
    scale = search.optimizer[parameters["optimizer"]] if search.optimizer else 1.0
    if search.learning_rate_grid:
        return scale * search.learning_rates()[parameters["learning_rate_step"]]
    return scale * float(parameters["learning_rate"])


def staging_for(search: SearchSettings, kind: Kind, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The settings of `staging` that the variables stand for; empty for a baseline."""
    return {setting: parameters[f"staging_{setting}"] for setting in search.staging.listed if kind == "staged"}


def _merged(stages: list[Stage], grid: int) -> Schedule:
    """Round durations to the grid, drop empty stages and join neighbours with equal rates."""
    # The last ratio may be zero before rounding; the grid gives the full model at least one slot.
    raw = [stage.share for stage in stages]
    minimum = 1e-9
    if raw[-1] < minimum:
        longest = raw.index(max(raw))
        raw[longest] -= minimum - raw[-1]
        raw[-1] = minimum
    drawn = Schedule(stages=tuple(Stage(rates=s.rates, duration_ratio=r) for s, r in zip(stages, raw, strict=True)), grid=grid)
    joined: list[tuple[Rates, int]] = []
    for stage, slots in zip(drawn.stages, drawn.slots(), strict=True):
        if not slots:
            continue
        if joined and joined[-1][0] == stage.rates:
            joined[-1] = (stage.rates, joined[-1][1] + slots)
        else:
            joined.append((stage.rates, slots))
    return Schedule(stages=tuple(Stage(rates=r, duration_ratio=u / grid) for r, u in joined), grid=grid)


def first_guesses(search: SearchSettings, kind: Kind, recipe: Recipe, currency: Currency = "flops") -> list[dict[str, Any]]:
    """Variables of plausible first trials: the recipe's learning rate and batch size, rates in even steps, equal durations.

    There is one for each learning-rate schedule and each optimizer of a baseline, so that it is tried with all of them. Where
    seconds count, others reduce one axis alone, most of the time: the time of a step falls with blocks and tokens, and hardly
    with heads.
    """
    low, high = search.learning_rate
    batch_size = recipe.batch_size
    guess: dict[str, Any] = {"batch_size": batch_size if batch_size in search.batch_size else search.batch_size[0]}
    if search.learning_rate_grid:
        rates = search.learning_rates()
        learning_rate = recipe.learning_rate
        guess["learning_rate_step"] = min(range(len(rates)), key=lambda step: abs(math.log(rates[step] / learning_rate)))
    else:
        guess["learning_rate"] = min(max(recipe.learning_rate, low), high)
    own = recipe.lr_schedule.kind
    decays = sorted(search.lr_schedule, key=lambda decay: decay != own)  # that of the recipe first
    optimizers = sorted(search.optimizer, key=lambda name: name != recipe.optimizer)
    if decays:
        guess["lr_schedule"] = decays[0]
    if optimizers:
        guess["optimizer"] = optimizers[0]
    if kind == "baseline":
        other_decays = [{**guess, "lr_schedule": decay} for decay in decays[1:]]
        return [guess, *other_decays, *({**guess, "optimizer": name} for name in optimizers[1:])]
    guess |= {f"staging_{setting}": values[0] for setting, values in search.staging.listed.items()}
    for stage in range(search.stages - 1):
        pieces = search.stages - stage
        guess[f"duration_{stage}"] = 1 - (1 - 1 / pieces) ** (pieces - 1)
    together = [even_positions(search, stage) for stage in range(search.stages)]
    guesses = [guess | rate_variables(search, together)]
    axes = search.rates.searched
    if currency == "flops" or search.tied or len(axes) < 2:
        return guesses
    full = together[-1]
    if search.stages == len(LONG_EARLY_STAGES[1]):
        guess |= duration_variables(LONG_EARLY_STAGES[1])
    for axis in reversed(axes):  # depth saves the most time, then tokens
        top = full[axis]
        alone = [{**full, axis: top * stage // (search.stages - 1)} for stage in range(search.stages)]
        guesses.append(guess | rate_variables(search, alone))
    return guesses


LONG_EARLY_STAGES = ((0.6, 0.4), (0.5, 0.4, 0.1), (0.8, 0.2))
"""Shares of the budget of further first guesses on proxies and where seconds count, from the lowest rates to the full model.
On both tasks of the transfer study (benchmarks/transfer), the best schedules train the full model for a small part of the
budget."""


def proxy_guesses(search: SearchSettings, recipe: Recipe) -> list[dict[str, Any]]:
    """Variables of plausible first trials on a proxy: those of `first_guesses`, and longer stages with low rates."""
    guesses = first_guesses(search, "staged", recipe)
    for shares in LONG_EARLY_STAGES:
        if len(shares) <= search.stages:
            unused = search.stages - len(shares)
            levels = [0, *range(search.stages - len(shares) + 1, search.stages)]
            positions = [even_positions(search, stage) for stage in (*[0] * unused, *levels)]
            guesses.append(guesses[0] | duration_variables((0,) * unused + shares) | rate_variables(search, positions))
    return guesses


def neighbours(search: SearchSettings, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same variables with the next smaller or larger batch size, or learning rate: what is tried first comes first.

    Smaller batches come first, since they give a small budget more steps. Without a grid, learning rates are a factor of two
    apart.
    """
    sizes = sorted(search.batch_size)
    place = sizes.index(values["batch_size"])
    found = [{**values, "batch_size": sizes[place - 1]}] if place else []
    if search.learning_rate_grid:
        step = values["learning_rate_step"]
        steps = [each for each in (step + 1, step - 1) if 0 <= each < search.learning_rate_grid]
        found += [{**values, "learning_rate_step": each} for each in steps]
    else:
        (low, high), rate = search.learning_rate, values["learning_rate"]
        rates = [min(2 * rate, high), max(rate / 2, low)]
        found += [{**values, "learning_rate": each} for each in rates if each != rate]
    return found + [{**values, "batch_size": size} for size in sizes[place + 1 : place + 2]]


def further_choices(search: SearchSettings) -> int:
    """Number of learning-rate schedules and optimizers that a search compares with those of its first guess."""
    return max(0, len(search.lr_schedule) - 1) + max(0, len(search.optimizer) - 1)


def untried_choices(
    search: SearchSettings, values: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The same variables with each learning-rate schedule and each optimizer that no trial has had.

    Args:
        search: the settings of the search.
        values: the variables.
        tried: the variables of all trials so far.
    """
    choices = [("lr_schedule", decay) for decay in search.lr_schedule] + [("optimizer", name) for name in search.optimizer]
    return [{**values, name: choice} for name, choice in choices if all(trial[name] != choice for trial in tried)]


def even_positions(search: SearchSettings, stage: int) -> dict[Axis, int]:
    """Positions of each axis in its levels at a stage, if they rise in even steps from the lowest rates to the full model."""
    return {axis: round((len(getattr(search.rates, axis)) - 1) * stage / (search.stages - 1)) for axis in AXES}


def rate_variables(search: SearchSettings, positions: Sequence[Mapping[Axis, int]]) -> dict[str, float]:
    """The variables that stand for certain rates, the inverse of `schedule_for`.

    Args:
        search: the settings of the search.
        positions: positions of each axis in its levels, for every stage with the full model as the last; they must not fall.
    """
    variables = {}
    for stage, (here, following) in enumerate(itertools.pairwise(positions)):
        for group, axes in _groups(search).items():
            variables[f"{group}_{stage}"] = (here[axes[0]] + 0.5) / (following[axes[0]] + 1)
    return variables


def duration_variables(shares: Sequence[float]) -> dict[str, float]:
    """The variables that stand for certain shares of the budget, the inverse of `schedule_for`.

    Args:
        shares: one for each stage, with the full model as the last; their sum is 1.
    """
    left, variables = 1.0, {}
    for stage, share in enumerate(shares[:-1]):
        piece = min(1.0, share / left) if left > 0 else 0.0
        variables[f"duration_{stage}"] = 1 - (1 - piece) ** (len(shares) - 1 - stage)
        left -= share
    return variables


def variables_of(search: SearchSettings, schedule: Schedule) -> dict[str, float] | None:
    """The durations and rates that stand for a schedule; `None` if no values of the variables give it."""
    stages = [stage for stage, slots in zip(schedule.stages, schedule.slots(), strict=True) if slots]
    if len(stages) > search.stages or any(stage != Stage(rates=stage.rates, duration_ratio=stage.share) for stage in stages):
        return None
    stages = [Stage(rates=stages[0].rates, duration_ratio=0)] * (search.stages - len(stages)) + stages
    positions: list[dict[Axis, int]] = []
    for stage in stages:
        levels = {axis: getattr(search.rates, axis) for axis in AXES}
        if any(getattr(stage.rates, axis) not in levels[axis] for axis in AXES):
            return None
        positions.append({axis: levels[axis].index(getattr(stage.rates, axis)) for axis in AXES})
    variables = duration_variables([stage.share for stage in stages]) | rate_variables(search, positions)
    proposed = schedule_for(search, "staged", variables)
    return variables if _stages_as_text(proposed) == _stages_as_text(schedule) else None


def variables_at_larger_budget(search: SearchSettings, schedule: Schedule) -> dict[str, float]:
    """The durations and rates of a schedule of a smaller budget, with early stages that end after the same costs.

    The last stage takes the rest of the larger budget.

    Args:
        search: the settings of the search at the larger budget, in which slots cost as much as at the smaller one.
        schedule: the schedule at the smaller budget.
    """
    early = schedule.slots()[:-1]
    slots = (*early, search.grid - sum(early))
    stages = (Stage(rates=each.rates, duration_ratio=n / search.grid) for each, n in zip(schedule.stages, slots, strict=True))
    variables = variables_of(search, Schedule(stages=tuple(stages), grid=search.grid))
    assert variables is not None, f"no variables stand for {schedule}"
    return variables


def _stages_as_text(schedule: Schedule) -> list[str]:
    """Rates and shares of the stages, without rounding errors."""
    return [f"{stage.rates.model_dump_json()} {stage.share:.6f}" for stage in schedule.stages]
