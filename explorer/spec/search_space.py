"""Search spaces: the description of a sweep, in one YAML file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.errors import InvalidInput, validated
from explorer.spec.base import read_mapping
from explorer.spec.budget import CURRENCY_NAMES, Budget, BudgetField, Currency, Unit
from explorer.spec.data import DataSpec
from explorer.spec.loggers import LoggerName
from explorer.spec.proxy import Proxies
from explorer.spec.schedule import MAX_GRID
from explorer.spec.search_settings import SearchSettings
from explorer.spec.task_file import TaskFile
from explorer.spec.trial_counts import KINDS, Kind, trials_at

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of sweep names, which become folder names."""


def _budgets(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    units = {budget.unit: budget for budget in budgets}
    if len(units) > 1:
        given = " and ".join(str(budget) for budget in units.values())
        raise ValueError(f"budgets must all have the same unit: {given} are costs in different ones")
    if list(budgets) != sorted(set(budgets)):
        raise ValueError("budgets must rise from the cheapest, without duplicates")
    return budgets


BUDGET_UNITS: dict[Currency, dict[Unit, str]] = {
    "flops": {"fraction": "shares of full training (25%)", "FLOPs": "FLOPs (3e17 FLOPs)"},
    "device_seconds": {
        "fraction": "shares of full training (25%)",
        "device-seconds": "time of one device (2 GPU-hours)",
        "money": "money ($40) with a price",
    },
}
"""Units of budgets that a sweep in each currency compares at, with an example."""


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
    price: float | None = Field(None, gt=0)
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
        on = self.resources.device_kind
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
        """The same space without the budgets above `search.goal`; without a spending limit, that is all that a goal means.

        Raises:
            InvalidInput: when all trials are at budgets above it.
        """
        search = self.search
        if search.goal is None:
            return self
        count = self.budgets.index(search.goal) + 1

        def cut(name: str, counts: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
            if not isinstance(counts, tuple) or any(counts[:count]):
                return counts[:count] if isinstance(counts, tuple) else counts
            if search.spend:  # which decides the numbers of trials
                return None
            raise InvalidInput(name, list(counts), f"has no trials at the budgets up to search.goal, {search.goal}")

        changes: dict[str, Any] = {name: cut(f"search.{name}", getattr(search, name)) for name in ("trials", "baseline_trials")}
        seeds = cut("search.repeat_seeds", search.repeat_seeds)
        changes["repeat_seeds"] = self.seeds_at(self.budgets[0]) if search.spend else seeds
        changes["goal"] = search.goal if search.spend else None
        proxies = tuple(
            proxy.model_copy(update={"trials": cut(f"proxy.{number}.trials", proxy.trials)})
            for number, proxy in enumerate(self.proxy)
        )
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
        if self.search.spend is not None or counts is None:  # required without a limit, but not for the proxies of one
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
        if self.search.spend is not None:
            return 0
        return sum(self.planned_at(budget, proxy, kind) for budget in self.budgets for proxy, kind in self.trial_groups())

    def trial_groups(self) -> Iterator[tuple[int | None, Kind]]:
        """Number of the proxy, from 1, and kind of all trials; the target has no number."""
        for number in range(1, len(self.proxy) + 1):
            yield number, "staged"
        for kind in KINDS:
            yield None, kind

    def planned_at(self, budget: Budget, proxy: int | None, kind: Kind) -> int:
        """Number of trials of one of `trial_groups` at a budget, repeats included; 0 where a spending limit decides."""
        space = self if proxy is None else self.proxy_space(proxy)
        wanted = space.trials_at(budget, kind)
        if kind == "baseline":
            wanted = min(wanted, space._distinct_baselines)
        if budget == space.search.goal:  # not searched: a few schedules are trained there once; see Search.allocated_space
            return wanted
        return wanted + min(space.search.repeat, wanted) * space.seeds_at(budget)

    @property
    def _distinct_baselines(self) -> int:
        """Number of different settings of the baseline."""
        search = self.search
        rates = set(search.learning_rates()) or set(search.learning_rate)
        if search.learning_rate_grid is None and len(rates) > 1:
            return sys.maxsize
        return len(set(search.batch_size)) * len(rates) * max(1, len(search.lr_schedule)) * max(1, len(search.optimizer))

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
