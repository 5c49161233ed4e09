"""Compare the training that this project's search and Ray Tune with OptunaSearch need, replayed on recorded results.

    python benchmarks/search/replay.py    a minute

Both use the same search space and the same recorded accuracies (table.csv, written by record.py), with ten seeds of the search.

- Direct: `OptunaSearch`, asked and told as Ray Tune does, without sharing. Once with accuracy and cost as objectives and the
  budget as a parameter; once with one searcher per budget, in turn.
- Ours: one study per budget with promotion, duplicates reused, and prefixes trained once (with every state at the end of a
  segment stored, as in the stage store). Baseline trials are not counted, because the direct search has none.

Progress is the hypervolume of validation accuracy over log2 of the cost, so that each doubling of the budget has the same
weight. The reference point is full training with zero accuracy.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution
from ray.tune.search.optuna import OptunaSearch

from explorer import SearchSpace
from explorer.frontier.pareto import hypervolume
from explorer.ledger import Trial
from explorer.plan import Plan
from explorer.search.dispatcher import Dispatcher, PlannedTrial
from explorer.search.forecast import synthetic_record
from explorer.search.proposal import distributions, schedule_for
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.spec.budget import Budget

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from figures import keep  # noqa: E402 (a script's neighbour folder)

SEEDS = 10


class Table:
    """The recorded trainings, and their plans."""

    def __init__(self) -> None:
        self.space = SearchSpace.load(FOLDER / "space.yaml")
        rows = pd.read_csv(FOLDER / "table.csv")
        self._accuracy = {
            (row.budget, f"{row.learning_rate:.6g}", row.batch_size, row.units): row.validation_accuracy
            for row in rows.itertuples()
        }
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def _key(self, trial: Trial) -> tuple[Any, ...]:
        levels = self.space.search.rates.heads
        units = dict.fromkeys(levels, 0)
        for stage, count in zip(trial.schedule.stages, trial.schedule.slots(), strict=True):
            units[stage.rates.heads] += count
        return (str(trial.budget), f"{trial.learning_rate:.6g}", trial.batch_size, "-".join(map(str, units.values())))

    def accuracy(self, trial: Trial) -> float:
        """Recorded validation accuracy."""
        return self._accuracy[self._key(trial)]

    def plan(self, trial: Trial) -> Plan:
        """The trial's plan."""
        key = self._key(trial)
        if key not in self._plans:
            self._plans[key] = compile_trial(trial, self.space)[1]
        return self._plans[key]


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

    def add(self, budget: str, accuracy: float, executed: float) -> None:
        """A result came in, for `executed` full trainings."""
        self.spent += executed
        self._costs.append(math.log2(Budget.parse(budget).amount / self._cheapest))
        self._accuracies.append(accuracy)
        self.volumes.append((self.spent, hypervolume(self._costs, self._accuracies, self._reference)))

    def cost_to_reach(self, volume: float) -> float:
        """Full trainings spent when the hypervolume was reached; infinite if it never was."""
        return next((spent for spent, reached in self.volumes if reached >= volume), math.inf)


def ours(table: Table, seed: int, sharing: bool = True, **search: Any) -> Progress:
    """A sweep of this project."""
    space = table.space.with_search(seed=seed, **search)
    progress, trained = Progress(space), set()
    # Results were recorded with one training seed; here the seed is that of the search only.
    work = Dispatcher(Search(space), table.plan, hold_back=False)

    def add_shared() -> None:
        """A staged trial that shares the training of a baseline is charged in full: baselines are not counted here."""
        for record in work.take_shared_records():
            if record.trial.kind == "staged" and record.outcome:
                cost = record.outcome.planned_flops / record.outcome.full_flops
                progress.add(str(record.trial.budget), record.outcome.validation_accuracy, cost)

    while isinstance(planned := work.next(), PlannedTrial):
        add_shared()
        trial, plan = planned.trial, planned.plan
        known = planned.segments_in(trained) if sharing else 0
        trained.update(planned.prefixes)
        executed = sum(segment.flops for segment in plan.segments[known:])
        accuracy = table.accuracy(trial)
        if trial.kind == "staged":
            progress.add(str(trial.budget), accuracy, executed / plan.full_flops)
        work.finished(synthetic_record(trial, plan, accuracy))
    add_shared()
    return progress


def plain(table: Table, seed: int, limit: float, per_budget: bool) -> Progress:
    """OptunaSearch, asked and told as Tune does, until `limit` full trainings are spent."""
    search, progress = table.space.search, Progress(table.space)
    variables = distributions(search, "staged")
    if per_budget:
        seeds = range(seed * 100, seed * 100 + len(table.space.budgets))
        searchers = [OptunaSearch(variables, metric="accuracy", mode="max", seed=number) for number in seeds]
    else:
        variables["budget"] = CategoricalDistribution([str(budget) for budget in table.space.budgets])
        searchers = [OptunaSearch(variables, metric=["accuracy", "cost"], mode=["max", "min"], seed=seed)]
    number = 0
    while progress.spent < limit:
        searcher = searchers[number % len(searchers)]
        config = searcher.suggest(str(number))
        budget = config.get("budget") or str(table.space.budgets[number % len(searchers)])
        trial = Trial(
            id=str(number),
            phase="search",
            kind="staged",
            budget=budget,
            schedule=schedule_for(search, "staged", config),
            learning_rate=search.learning_rates()[config["learning_rate_step"]],
            batch_size=config["batch_size"],
            seed=0,
        )
        accuracy, cost = table.accuracy(trial), table.plan(trial).cost
        searcher.on_trial_complete(str(number), {"accuracy": accuracy, "cost": cost, "training_iteration": 1})
        progress.add(budget, accuracy, cost)
        number += 1
    return progress


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="of ours, at the cheapest budget")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = Table()
    settings = {"trials": options.trials, "baseline_trials": 1}
    variants: dict[str, Callable[[int], Progress]] = {
        "ours": lambda seed: ours(table, seed, **settings),
        "ours without sharing": lambda seed: ours(table, seed, sharing=False, **settings),
        "ours without promotion": lambda seed: ours(table, seed, promote=0, **settings),
    }
    limit = statistics.mean(ours(table, seed, **settings).spent for seed in range(SEEDS))
    variants |= {
        "OptunaSearch, two objectives": lambda seed: plain(table, seed, limit, per_budget=False),
        "OptunaSearch per budget": lambda seed: plain(table, seed, limit, per_budget=True),
    }
    runs = {name: [run(seed) for seed in range(SEEDS)] for name, run in variants.items()}
    finals = {name: statistics.mean(run.volumes[-1][1] for run in of) for name, of in runs.items()}
    print("cost to reach OptunaSearch's final hypervolume, of its cost: median (lowest to highest of the seeds)")
    titles = ("search", "full trainings", "hypervolume", "to reach two objectives", "to reach per budget")
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for name, of in runs.items():
        reached = []
        for target in list(variants)[-2:]:
            shares = [run.cost_to_reach(finals[target]) / limit for run in of]
            reached.append(f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        print(f"| {name} | {statistics.mean(run.spent for run in of):.2f} | {finals[name]:.3f} | {' | '.join(reached)} |")
        keep(f"{name}: hypervolume", finals[name], 0.01)
    accuracies = pd.read_csv(FOLDER / "table.csv").pivot_table(
        index=["learning_rate", "batch_size", "units"], columns="budget", values="validation_accuracy"
    )
    ranks = accuracies[[str(budget) for budget in table.space.budgets]].corr(method="spearman")
    neighbours = [f"{a} to {b} {ranks.loc[a, b]:.2f}" for a, b in itertools.pairwise(ranks.columns)]
    print(f"Spearman between neighbouring budgets, all {len(accuracies)} points: {', '.join(neighbours)}")


if __name__ == "__main__":
    main()
