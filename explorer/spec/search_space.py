"""Search spaces: the description of a sweep, in one YAML file."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import InvalidInput, validated
from explorer.spec.base import Frozen, read_mapping
from explorer.spec.budget import CURRENCY_NAMES, Budget, BudgetField, Currency, Unit
from explorer.spec.data import DataSpec
from explorer.spec.imports import Reference
from explorer.spec.loggers import LoggerName
from explorer.spec.lr_schedule import Decay
from explorer.spec.optimizer_choice import OptimizerChoice, OptimizerScales
from explorer.spec.proxy import Proxies
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.schedule import MAX_GRID
from explorer.spec.spending_limit import SpendingLimitField
from explorer.spec.staging import BlockSubset, Growth, SubsetChoice, TokenPolicy
from explorer.spec.task_file import TaskFile
from explorer.spec.trial_counts import SeedCounts, TrialCounts, trials_at

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of sweep names, which become folder names."""


def _levels(levels: tuple[float, ...]) -> tuple[float, ...]:
    if list(levels) != sorted(set(levels)) or not levels or levels[0] <= 0 or levels[-1] != 1:
        raise ValueError(f"rates {list(levels)} must be in (0, 1], rise, and end at 1")
    return levels


def _budgets(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    units = {budget.unit: budget for budget in budgets}
    if len(units) > 1:
        given = " and ".join(str(budget) for budget in units.values())
        raise ValueError(f"budgets must all have the same unit: {given} are costs in different ones")
    if list(budgets) != sorted(set(budgets)):
        raise ValueError("budgets must rise from the cheapest, without duplicates")
    return budgets


Levels = Annotated[tuple[float, ...], AfterValidator(_levels)]
BUDGET_UNITS: dict[Currency, dict[Unit, str]] = {
    "flops": {"fraction": "shares of full training (25%)", "FLOPs": "FLOPs (3e17 FLOPs)"},
    "device_seconds": {
        "fraction": "shares of full training (25%)",
        "device-seconds": "time of one device (2 GPU-hours)",
        "money": "money ($40) with a price",
    },
}
"""Units of budgets that a sweep in each currency compares at, with an example."""
Kind = Literal["staged", "baseline"]
KINDS: tuple[Kind, ...] = ("staged", "baseline")
"""Kinds of trials: staged schedules, and the baseline: the full model throughout."""


class RateLevels(Frozen):
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


class StagingChoices(Frozen):
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


class SearchSettings(Frozen):
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
    The baseline tries each of them first. Empty: that of the recipe."""
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
    seed: int = Field(0, ge=0)
    """Seed of every search trial. The fresh seeds are the numbers that follow it."""

    @model_serializer(mode="wrap")
    def _without_earlier_sweeps(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Under the key of files. Left out where there are none, as optimizers are: such spaces are written as before."""
        content = handler(self)
        if not content["optimizer"]:
            del content["optimizer"]
        sweeps = content.pop("from_")
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


class SearchSpace(TaskFile):
    """A sweep: a task, the budgets, what to search, and the resources of each trial."""

    name: str = Field(pattern=NAME_PATTERN)
    """Name of the sweep, its folder and its report. Letters, digits, dots, dashes and underscores."""
    budgets: Annotated[tuple[BudgetField, ...], AfterValidator(_budgets)] = Field(min_length=1)
    """Budgets at which schedules are compared, in rising order: shares of full training (`25%`), or amounts of the currency:
    FLOPs (`3e17 FLOPs`), or time of one device (`2 GPU-hours`) and money (`$40`)."""
    currency: Currency = "flops"
    """What cost is counted in, everywhere in the sweep: `flops`, or `device_seconds`. Device-seconds are planned by a table of
    step times, which is measured where the trials run before the first of them, and kept with the sweep."""
    price: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Price of a device-hour, for budgets in money. `None` if there are none."""
    search: SearchSettings
    proxy: Proxies = ()
    """Cheaper tasks on which schedules are compared first: one, or a list from the cheapest up. The best schedules on a proxy
    at each budget, as a share of its own full training, are tried first on the next one, and at last on the target, with
    learning rates and batch sizes that are searched there. Needs budgets that are shares of full training."""
    store_gb: float = Field(20.0, ge=0)
    """Size of the stage store in GB, on the sweep's storage while the sweep runs: trained segments that trials share. 0
    disables sharing."""
    loggers: tuple[LoggerName, ...] = ()
    """Experiment loggers besides TensorBoard's event files, which are always written where the storage is a folder. They need
    their packages (`pip install vit-budget-explorer[mlflow]`)."""

    @model_serializer(mode="wrap")
    def _without_proxies(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Spaces without proxies are written as they were before there were any."""
        content = self._flatten(handler)
        return content if content.get("proxy") else {name: value for name, value in content.items() if name != "proxy"}

    @model_validator(mode="after")
    def _check(self) -> SearchSpace:
        self._check_currency()
        self._check_proxies()
        self._check_durations()
        self._check_optimizers()
        if self.search.goal is not None and self.search.goal not in self.budgets:
            raise ValueError(f"search.goal: {self.search.goal} must be one of the budgets: {', '.join(map(str, self.budgets))}")
        self._check_counts("search.trials", self.search.trials)
        self._check_counts("search.baseline_trials", self.search.baseline_trials)
        self._check_counts("search.repeat_seeds", self.search.repeat_seeds)
        for budget in self.budgets if self.search.spend is None else ():
            if len(self.search.first) > (trials := self.trials_at(budget, "staged")):
                raise ValueError(
                    f"search.first: {len(self.search.first)} schedules are more than the {trials} staged trials at {budget}"
                )
        if self.search.minimize == "peak_memory" and not self.resources.gpus:
            raise ValueError("search.minimize: peak_memory is measured on GPUs only, and resources.gpus is 0")
        return self

    def _check_counts(self, name: str, counts: int | tuple[int, ...] | None) -> None:
        if isinstance(counts, tuple) and len(counts) != len(self.budgets):
            raise ValueError(f"{name}: {list(counts)} must have one number for each of the {len(self.budgets)} budgets")

    def _check_optimizers(self) -> None:
        scales, own = self.search.optimizer, self.task.recipe.optimizer
        if scales and scales.get(own) != 1:
            others = "".join(f", {name}: ..." for name in scales if name != own)
            raise ValueError(
                f"search.optimizer: the learning rates of the search are for {own}, the recipe's optimizer, which must be "
                f"among them with a scale of 1: {{{own}: 1{others}}}"
            )
        if scales and self.currency == "device_seconds":
            raise ValueError(
                "search.optimizer: needs currency: flops, since step times are measured with the recipe's optimizer"
            )

    def _check_durations(self) -> None:
        if self.search.durations_of == "budget":
            return
        lr_schedule = self.task.recipe.lr_schedule
        if lr_schedule.warmup_of != "full_training" or "wsd" not in (self.search.lr_schedule or (lr_schedule.kind,)):
            raise ValueError(
                "search.durations_of: full_training needs recipe.lr_schedule: {kind: wsd, warmup_of: full_training}, without "
                "which budgets have no steps in common"
            )
        for budget in self.budgets:
            slots = self._slots_at(budget)
            if slots.denominator > 1 or slots > MAX_GRID:
                raise ValueError(
                    f"search.durations_of: a slot is 1/{self.search.grid} of {self.budgets[0]}, and {budget} is "
                    f"{float(slots):.6g} slots: it must be a whole number of at most {MAX_GRID}; change budgets or search.grid"
                )

    def _slots_at(self, budget: Budget) -> Fraction:
        """Number of slots of a budget, where the cheapest budget has `search.grid`."""
        return self.search.grid * budget.exact_amount / self.budgets[0].exact_amount

    def search_at(self, budget: Budget) -> SearchSettings:
        """The settings of the search at one of the budgets: with durations that are fractions of full training, `grid` is the
        number of its slots, which cost the same at all budgets."""
        if self.search.durations_of == "budget":
            return self.search
        return self.search.model_copy(update={"grid": int(self._slots_at(budget))})

    def _check_proxies(self) -> None:
        if not self.proxy:
            return
        if self.budgets[0].unit != "fraction":
            raise ValueError(f"proxy: needs budgets that are shares of full training (25%), and {self.budgets[0]} is none")
        for number, proxy in enumerate(self.proxy, start=1):
            name = f"proxy.{number - 1}"
            self._check_counts(f"{name}.trials", proxy.trials)
            for budget in self.budgets if self.search.spend is None else ():
                if len(self.search.first) > (count := self.proxy_space(number).trials_at(budget, "staged")):
                    first = f"the {len(self.search.first)} schedules of search.first"
                    raise ValueError(f"{name}.trials: {count} at {budget} are fewer than {first}")
            if self.currency == "device_seconds" and not proxy.has_step_times_of_target:
                raise ValueError(
                    f"{name}: another model or image size has other step times, which are measured for the target alone; use "
                    "currency: flops, or a proxy with fewer images or epochs"
                )

    def _check_currency(self) -> None:
        if self.search.spend is not None:
            try:
                self.search.spend.check_fits(self.currency, self.price)
            except InvalidInput as error:
                raise ValueError(f"{error.field}: {error.value}: {error.allowed}") from None
        allowed, name = BUDGET_UNITS[self.currency], CURRENCY_NAMES[self.currency]
        for budget in self.budgets:
            if budget.unit not in allowed:
                other = next((each for each, units in BUDGET_UNITS.items() if budget.unit in units), None)
                hint = f"; for such budgets, set currency: {other}" if other else ""
                raise ValueError(
                    f"budgets: {budget} is no budget of a sweep that counts {name} (currency: {self.currency}): "
                    f"allowed are {', '.join(allowed.values())}{hint}"
                )
            if budget.unit == "money" and self.price is None:
                raise ValueError(f"price: missing; the budget {budget} needs the price of a device-hour")
        on = "GPU" if self.resources.gpus else "CPU"
        amounts = {"budgets": self.budgets, "search.spend": (self.search.spend,) if self.search.spend else ()}
        for name, amount in ((name, amount) for name, each in amounts.items() for amount in each):
            if amount.device not in (None, on):
                raise ValueError(f"{name}: {amount}: trials would run on a {on} (resources.gpus: {self.resources.gpus:g})")
        if self.price is not None and self.currency == "flops":
            raise ValueError(
                f"price: {self.price:g} is of a device-hour, and FLOPs have no price; set currency: device_seconds"
            )

    def as_planned(self) -> SearchSpace:
        """The same space without what `search.plan: exhaustive` leaves out."""
        if self.search.plan != "exhaustive":
            return self
        changes = {"spend": None, "goal": None, "plan": "limited"}
        return self.model_copy(update={"search": self.search.model_copy(update=changes), "proxy": ()})

    def up_to_goal(self) -> SearchSpace:
        """The same space without the budgets above `search.goal`; without a spending limit, that is all that a goal means."""
        search = self.search
        if search.goal is None:
            return self
        count = self.budgets.index(search.goal) + 1

        def cut(counts: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
            return counts[:count] if isinstance(counts, tuple) else counts

        changes: dict[str, Any] = {name: cut(getattr(search, name)) for name in ("trials", "baseline_trials")}
        changes["repeat_seeds"] = self.seeds_at(self.budgets[0]) if search.spend else cut(search.repeat_seeds)
        changes["goal"] = search.goal if search.spend else None
        proxies = tuple(proxy.model_copy(update={"trials": cut(proxy.trials)}) for proxy in self.proxy)
        return self.model_copy(
            update={"budgets": self.budgets[:count], "search": search.model_copy(update=changes), "proxy": proxies}
        )

    def with_proxy_trials(self, trials: Sequence[tuple[int, ...]]) -> SearchSpace:
        """The same space with other numbers of trials on its proxies, one for each budget."""
        proxies = [proxy.model_copy(update={"trials": counts}) for proxy, counts in zip(self.proxy, trials, strict=True)]
        return self.model_copy(update={"proxy": tuple(proxies)})

    def trials_at(self, budget: Budget, kind: Kind) -> int:
        """Number of search trials of a kind at one of the space's budgets; see `explorer.spec.trial_counts.trials_at`.

        0 where a spending limit decides; see `explorer.search.spending`.
        """
        counts = self.search.trials if kind == "staged" else self.search.baseline_trials
        if (
            self.search.spend is not None or counts is None
        ):  # it is required without a limit, but not for the proxies of a limit
            return 0
        return trials_at(counts, self.budgets, budget)

    def seeds_at(self, budget: Budget) -> int:
        """Number of fresh seeds with which each of the best trials at one of the space's budgets is repeated.

        Within a spending limit, the smallest of all: what more would cost buys trials there.
        """
        counts = self.search.repeat_seeds
        if not isinstance(counts, tuple):
            return counts
        return min(counts) if self.search.spend is not None else counts[self.budgets.index(budget)]

    @property
    def proxy_budget(self) -> Budget:
        """The only budget at which proxies compare schedules within a spending limit: the goal, or the one in the middle."""
        if self.search.goal is not None:
            return self.search.goal
        logs = [math.log(budget.amount) for budget in self.budgets]
        middle = sum(logs) / len(logs)
        return min(self.budgets, key=lambda budget: abs(math.log(budget.amount) - middle))

    def proxy_space(self, number: int) -> SearchSpace:
        """The search space of a proxy: its task and its trials, without proxies and repeats. Only staged trials are for it.

        It compares schedules alone: learning rate and batch size do not transfer, and are those of the recipe.

        Args:
            number: of the proxy, from 1.
        """
        proxy, recipe, sizes = self.proxy[number - 1], self.task.recipe, self.search.batch_size
        changes: dict[str, Any] = {
            "trials": proxy.trials or self.search.trials,
            "repeat": 0,
            "repeat_seeds": 1,
            "spend": None,
            "learning_rate": (recipe.learning_rate, recipe.learning_rate),
            "learning_rate_grid": None,
            "lr_schedule": (),
            "optimizer": {},
            "batch_size": (recipe.batch_size if recipe.batch_size in sizes else sizes[0],),
        }
        search = self.search.model_copy(update=changes)
        return self.model_copy(update={"task": proxy.task(self.task), "search": search, "proxy": ()})

    def with_data(self, data: DataSpec) -> SearchSpace:
        """The same space with other settings of the data, which were checked already."""
        return self.model_copy(update={"task": self.task.model_copy(update={"data": data})})

    @property
    def planned_trials(self) -> int:
        """Number of trials of a sweep, repeats included; fewer if it runs out of distinct staged schedules. 0 where a spending
        limit decides."""
        search, planned = self.search, 0
        if search.spend is not None:
            return 0
        rates = set(search.learning_rates()) or set(search.learning_rate)
        is_finite = search.learning_rate_grid is not None or len(rates) == 1
        others = max(1, len(search.lr_schedule)) * max(1, len(search.optimizer))
        baselines = len(set(search.batch_size)) * len(rates) * others if is_finite else sys.maxsize
        for budget in self.budgets:
            for count in (self.trials_at(budget, "staged"), min(self.trials_at(budget, "baseline"), baselines)):
                planned += count + min(search.repeat, count) * self.seeds_at(budget)
        proxies = (self.proxy_space(number) for number in range(1, len(self.proxy) + 1))
        return planned + sum(proxy.trials_at(budget, "staged") for proxy in proxies for budget in self.budgets)

    def with_search(self, **changes: Any) -> SearchSpace:
        """The same space with other search settings, checked like those of a file.

        Raises:
            InvalidInput: when a setting is unknown or its value is not allowed.
        """
        search = validated(SearchSettings, {**self.search.model_dump(), **changes}, "search")
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return validated(SearchSpace, {**fields, "search": search}, self.name)

    @classmethod
    def load(cls, path: str | Path) -> SearchSpace:
        """Read a YAML or JSON file. What needs timm or the data is checked by `explorer.search.checks.check_space`.

        Raises:
            InvalidInput: when a key or value is wrong.
        """
        return validated(cls, read_mapping(path), str(path))
