"""What a sweep searches: rates, stages, learning rates and more, and how many trials are spent on it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.spec.base import Settings
from explorer.spec.budget import BudgetField
from explorer.spec.imports import Reference
from explorer.spec.lr_schedule import Decay
from explorer.spec.optimizer_choice import OptimizerChoice, OptimizerScales
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.schedule import MAX_GRID
from explorer.spec.spending_limit import SpendingLimitField
from explorer.spec.staging import BlockSubset, Growth, SubsetChoice, TokenPolicy
from explorer.spec.trial_counts import SeedCounts, TrialCounts


def _levels(levels: tuple[float, ...]) -> tuple[float, ...]:
    if list(levels) != sorted(set(levels)) or not levels or levels[0] <= 0 or levels[-1] != 1:
        raise ValueError(f"rates {list(levels)} must be in (0, 1], rise, and end at 1")
    return levels


Levels = Annotated[tuple[float, ...], AfterValidator(_levels)]


class RateLevels(Settings):
    """Activation rates that a stage may have, by axis. The rates of an axis ascend and end at 1."""

    heads: Levels = (1.0,)
    """Rates of attention heads."""
    mlp: Levels = (1.0,)
    """Rates of MLP hidden channels."""
    tokens: Levels = (1.0,)
    """Rates of patch tokens."""
    depth: Levels = (1.0,)
    """Rates of blocks, for models that are plain stacks of blocks."""

    @property
    def searched(self) -> tuple[Axis, ...]:
        """Axes that tied rates set: those that have a choice."""
        return tuple(axis for axis in AXES if len(getattr(self, axis)) > 1)


class StagingChoices(Settings):
    """Settings of `staging` that staged trials compare. A setting without values here is that of the task."""

    subset: tuple[SubsetChoice, ...] = ()
    """Values of `staging.subset` to choose from."""
    growth: tuple[Growth, ...] = ()
    """Values of `staging.growth` to choose from."""
    token_policy: tuple[TokenPolicy, ...] = ()
    """Values of `staging.token_policy` to choose from."""
    blocks: tuple[BlockSubset, ...] = ()
    """Values of `staging.blocks` to choose from."""

    @property
    def listed(self) -> dict[str, tuple[str, ...]]:
        """The settings that are searched, and their values."""
        return {name: values for name, values in self.model_dump().items() if values}

    def combinations(self) -> list[dict[str, str]]:
        """Every choice of one value for each listed setting."""
        return [dict(zip(self.listed, values, strict=True)) for values in itertools.product(*self.listed.values())]


class SearchSettings(Settings):
    """What is searched, and how many trials are spent on it at each budget."""

    spend: SpendingLimitField | None = None
    """What all trials may cost together: full trainings (`3 trainings`), FLOPs (`2e18 FLOPs`), or, where `currency` is
    `device_seconds`, time of one device (`40 GPU-hours`) or money (`$40`, with `price`). It decides how many of the budgets
    are searched and with how many trials, in place of `trials` and `baseline_trials`, and at least the best trial of each kind
    is repeated. `None`: `trials` and `baseline_trials` decide."""
    goal: BudgetField | None = None
    """The budget that a schedule is wanted for, one of `budgets`: those above it are not searched. Within a spending limit that
    has no room to search it, a few schedules are trained there, or none: then its accuracy is predicted, which
    is possible for accuracy alone."""
    plan: Literal["limited", "exhaustive"] = "limited"
    """`exhaustive` searches all budgets of the sweep's own task with `trials` and `baseline_trials`, and leaves out `spend`,
    `goal` and `proxy`."""
    trials: TrialCounts | None = None
    """Number of staged trials at the cheapest budget. Each budget above it gets as many trials as cost the same, but at least
    three (or as many as the cheapest budget, if that has fewer). A list gives the number for each budget. Required without
    `spend`."""
    baseline_trials: TrialCounts | None = None
    """Number of baseline trials, which train the full model throughout, over the same learning rates and batch sizes. One
    number or a list, as for `trials`. Required without `spend`."""
    sampler: Reference = "tpe"
    """Optuna sampler that proposes trials: `tpe`, `random`, `gp` (Gaussian process), `paper` (random durations as in the paper,
    with rates that rise in even steps), or `package.module:name` of a function that takes
    `explorer.search.samplers.StudySettings` and returns a sampler."""
    first: tuple[str, ...] = ()
    """Known schedules that are tried before all others at every budget, with the learning rate and batch size of the recipe:
    names that `explorer schedules` lists (`paper`), or schedule files. They count as staged trials, and need not be within
    the rates and stages of the search."""
    from_: tuple[str, ...] = Field((), alias="from")
    """Earlier sweeps to start from: names of sweeps on the same storage, or their folders or URIs. Their best staged schedules
    are tried before all others but those of `first`, at the budgets that are nearest to their own; see
    [Start from earlier sweeps](../howto/schedules.md#start-from-earlier-sweeps)."""
    promote: int = Field(5, ge=0)
    """Number of the best trials of a budget that are tried first at the next budget."""
    minimize: Literal["train_seconds", "peak_memory"] | None = None
    """Second objective beside the metric, as measured; `peak_memory` needs a GPU. `None`: the metric is the only objective."""
    stages: int = Field(3, ge=2)
    """Number of stages, the full model included. A stage may get no duration."""
    grid: int = Field(20, ge=2, le=MAX_GRID)
    """Durations of stages are multiples of 1/grid of the budget."""
    durations_of: Literal["budget", "full_training"] = "budget"
    """What promoted schedules keep: the durations of their stages as fractions of the `budget`, or the costs after which their
    early stages end as fractions of `full_training`. Then durations at every budget are multiples of 1/grid of the cheapest,
    and a promoted schedule has the steps of the smaller budget until the cooldown of that one begins. Needs
    `recipe.lr_schedule: {kind: wsd, warmup_of: full_training}`."""
    rates: RateLevels
    tied: bool = False
    """With `true`, one choice sets all axes that have several rates, each to the rate at the same position. With `false`, each
    axis is chosen independently."""
    staging: StagingChoices = StagingChoices()
    """Settings of `staging` to compare."""
    learning_rate: tuple[float, float]
    """Lowest and highest peak learning rate, searched on a log scale."""
    learning_rate_grid: int | None = Field(None, ge=1, le=100)
    """Number of learning rates to choose from, spaced evenly on the log scale. `None`: any value. Only trials with equal
    learning rates share training."""
    lr_schedule: tuple[Decay, ...] = ()
    """Learning-rate schedules to choose from, for baseline trials and staged trials alike: `linear`, `cosine`, `rex`, `wsd`.
    At the cheapest budget, the baseline tries each of them first. Empty: that of the recipe."""
    optimizer: OptimizerScales = {}
    """Optimizers to choose from, for baseline trials and staged trials alike: names (`[adamw, lion]`), or each with its scale
    (`{adamw: 1, lion: 0.1}`). The learning rate of a trial is that of the search times the scale, and its weight decay that of
    the recipe divided by it, so that their product is the same for all. The recipe's optimizer must be among them, with a scale
    of 1. In a list, optimizers with `lion` in their names have a scale of 0.1, all others of 1. Empty: that of the recipe."""
    batch_size: tuple[int, ...] = Field(min_length=1)
    """Batch sizes to choose from."""
    repeat: int = Field(0, ge=0)
    """Number of the best trials of each kind and budget that are repeated with fresh seeds."""
    repeat_seeds: SeedCounts = 3
    """Number of fresh seeds for each of them: one number, or a list with one for each budget: cheap budgets have room for more.
    Within a spending limit, the smallest of a list holds for every budget.
    A 95 % interval extends 12.7 standard errors to either side with two seeds, 4.3 with three, 2.8 with five."""
    seed: int = Field(0, ge=0, lt=2**32)  # of NumPy, which Optuna draws with
    """Seed of every search trial. The fresh seeds are the numbers that follow it."""

    @model_serializer(mode="wrap")
    def _without_earlier_sweeps(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Under the key of files. Left out where there are none, as optimizers are: such spaces are written as before."""
        content = handler(self)
        if not content.get("optimizer"):
            content.pop("optimizer", None)
        sweeps = content.pop("from_", None) or content.pop("from", None)
        return {**content, "from": sweeps} if sweeps else content

    @model_validator(mode="after")
    def _check(self) -> SearchSettings:
        low, high = self.learning_rate
        if not 0 < low <= high:
            raise ValueError(f"learning_rate: {[low, high]} must be two numbers above 0, the lower one first")
        if self.learning_rate_grid == 1 and low != high:
            raise ValueError(f"learning_rate_grid: 1 value cannot be both {low} and {high}")
        for name in ("trials", "baseline_trials"):
            if (self.spend is None or self.plan == "exhaustive") and getattr(self, name) is None:
                unless = " with plan: exhaustive" if self.plan == "exhaustive" else ", unless spend gives a limit"
                raise ValueError(f"{name}: this key is required{unless}")
        for name, values in (("first", self.first), ("from", self.from_), ("lr_schedule", self.lr_schedule)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: {list(values)} must not contain a value twice")
        if min(self.batch_size) < 1:
            raise ValueError(f"batch_size: {list(self.batch_size)} must be whole numbers above 0")
        if self.stages > self.grid:
            raise ValueError(f"grid: {self.grid} slots cannot hold {self.stages} stages")
        if self.tied and len({len(getattr(self.rates, axis)) for axis in self.rates.searched}) > 1:
            raise ValueError("tied: needs the same number of rates on every axis that has more than one")
        if self.tied and not self.rates.searched:
            raise ValueError("tied: needs an axis with more than one rate")
        return self

    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates of the grid; empty without a grid."""
        low, high = self.learning_rate
        last = (self.learning_rate_grid or 0) - 1
        return tuple(low * (high / low) ** (step / max(1, last)) for step in range(last + 1))

    def optimizer_for(self, name: str | None, weight_decay: float) -> OptimizerChoice | None:
        """The optimizer of a trial; `None` for that of the recipe where the search compares none.

        Args:
            name: its name.
            weight_decay: that of the recipe.
        """
        return None if name is None else OptimizerChoice(name=name, weight_decay=weight_decay / self.optimizer[name])

    def tied_rates(self) -> list[Rates]:
        """The rates of all axes at each position of tied levels."""
        count = max(len(getattr(self.rates, axis)) for axis in self.rates.searched)
        return [
            self.rates_at({axis: min(level, len(getattr(self.rates, axis)) - 1) for axis in AXES}) for level in range(count)
        ]

    def rates_at(self, positions: Mapping[Axis, int]) -> Rates:
        """Rates from the position of each axis in its levels."""
        return Rates(**{axis: getattr(self.rates, axis)[positions[axis]] for axis in AXES})
