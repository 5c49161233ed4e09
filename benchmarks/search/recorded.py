"""The recorded trainings of a task (`<task>_table.csv`, written by record.py), and replays of a search on them."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from explorer import SearchSpace
from explorer.frontier.pareto import hypervolume
from explorer.ledger import Trial
from explorer.plan import Plan
from explorer.search.proposal import distributions, first_guesses, schedule_for
from explorer.search.trial_plan import compile_trial
from explorer.spec.budget import Budget

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "fashion_mnist"))  # where fashion.yaml finds its data source
TASKS = ("digits", "fashion")


class Table:
    """The recorded trainings, and their plans.

    Args:
        task: one of `TASKS`.
        proxies: numbers of the proxies of its search space that a search may use, from the cheapest up.

    Attributes:
        space: the search space, with these proxies alone.
    """

    def __init__(self, task: str = "digits", proxies: tuple[int, ...] = ()) -> None:
        space = SearchSpace.load(FOLDER / f"{task}.yaml")
        self.space = space.model_copy(update={"proxy": tuple(space.proxy[number - 1] for number in proxies)})
        self._proxies = proxies
        self._accuracy = {
            (row.task, row.budget, f"{row.learning_rate:.6g}", row.batch_size, row.units): row.validation_accuracy
            for row in recorded(task).itertuples()
        }
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def _key(self, trial: Trial) -> tuple[Any, ...]:
        levels = self.space.search.rates.heads
        units = dict.fromkeys(levels, 0)
        for stage, count in zip(trial.schedule.stages, trial.schedule.slots(), strict=True):
            units[stage.rates.heads] += count
        task = trained_on(None if trial.proxy is None else self._proxies[trial.proxy - 1])
        schedule = "-".join(map(str, units.values()))
        return (task, str(trial.budget), f"{trial.learning_rate:.6g}", trial.batch_size, schedule)

    def trial(self, variables: Mapping[str, Any], budget: Budget) -> Trial:
        """The staged trial that the variables of a search stand for."""
        search = self.space.search
        return Trial(
            id="0",
            phase="search",
            kind="staged",
            budget=budget,
            schedule=schedule_for(search, "staged", variables),
            learning_rate=search.learning_rates()[variables["learning_rate_step"]],
            batch_size=variables["batch_size"],
            seed=0,
        )

    def accuracy(self, trial: Trial) -> float:
        """Recorded validation accuracy."""
        return self._accuracy[self._key(trial)]

    def plan(self, trial: Trial) -> Plan:
        """The trial's plan."""
        key = self._key(trial)
        if key not in self._plans:
            self._plans[key] = compile_trial(trial, self.space)[1]
        return self._plans[key]


def recorded(task: str) -> pd.DataFrame:
    """The recorded trainings of a task; their column `task` has names of `trained_on`."""
    return pd.read_csv(FOLDER / f"{task}_table.csv")


def trained_on(proxy: int | None) -> str:
    """Name of the target, or of a proxy by its number in the search space."""
    return "target" if proxy is None else f"proxy {proxy}"


class Progress:
    """Hypervolume over what was spent."""

    def __init__(self, space: SearchSpace) -> None:
        self._reference = (math.log2(1.0 / space.budgets[0].amount), 0.0)
        self._cheapest = space.budgets[0].amount
        self._costs: list[float] = []
        self._accuracies: list[float] = []
        self.spent = 0.0
        self.volumes: list[tuple[float, float]] = []
        """(full trainings spent, hypervolume)"""

    def add_on_proxy(self, executed: float) -> None:
        """A training on a proxy ended, for `executed` full trainings of the target: it is no result of the target."""
        self.spent += executed

    def add(self, budget: Budget, accuracy: float, executed: float) -> None:
        """A result came in, for `executed` full trainings."""
        self.spent += executed
        self._costs.append(math.log2(budget.amount / self._cheapest))
        self._accuracies.append(accuracy)
        self.volumes.append((self.spent, hypervolume(self._costs, self._accuracies, self._reference)))


class Replay:
    """One seed of another search, which spends up to a limit.

    Args:
        table: the recorded trainings.
        seed: of the search.
        limit: in full trainings; the training that reaches it is the last.

    Attributes:
        variables: the distributions of the variables of a staged trial.
        guess: our first guess of them.
        budgets: from the cheapest up.
        progress: what was found for what was spent.
    """

    def __init__(self, table: Table, seed: int, limit: float) -> None:
        self._table, self.seed, self._limit = table, seed, limit
        search = table.space.search
        self.variables = distributions(search, "staged")
        self.guess = first_guesses(search, "staged", table.space.task.recipe)[0]
        self.budgets = table.space.budgets
        self.progress = Progress(table.space)
        random.seed(seed)
        np.random.seed(seed)  # the packages draw from the global generators
        torch.manual_seed(seed)

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self.progress.spent >= self._limit

    def train(self, variables: Mapping[str, Any], budget: Budget) -> tuple[float, float]:
        """Validation accuracy and cost in full trainings, which is added to what was spent."""
        trial = self._table.trial(variables, budget)
        accuracy, cost = self._table.accuracy(trial), self._table.plan(trial).cost
        self.progress.add(budget, accuracy, cost)
        return accuracy, cost
