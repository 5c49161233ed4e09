"""What a sweep will cost, before anything is spent."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass

import torch
from rich.table import Table

from explorer.ledger import Outcome, Record, StageOutcome, Trial
from explorer.plan import Plan
from explorer.search.prefix_sharing import SharedWork, prefix_keys
from explorer.search.search import Search
from explorer.spec.rates import AXES, Rates
from explorer.spec.search_space import SearchSpace
from explorer.sweep.trial import compiled
from explorer.training.device import device_for
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

TRIAL_OVERHEAD_SECONDS = 0.5
"""Seconds of Ray, data and evaluation around a training, where workers are kept; see benchmarks/README.md."""


@dataclass
class BudgetForecast:
    """The trials of one budget."""

    budget: str
    staged: int = 0
    baseline: int = 0
    confirmations: int = 0
    planned: float = 0.0
    """Cost of all of them in full trainings, were each trained by itself."""


@dataclass
class Forecast:
    """The trials of a sweep, their cost and their time."""

    budgets: list[BudgetForecast]
    executed: float = 0.0
    """Cost in full trainings of what is trained once and shared."""
    seconds: float = 0.0
    """Training time on one worker."""

    @property
    def planned(self) -> float:
        """Cost in full trainings, were each trial trained by itself."""
        return sum(row.planned for row in self.budgets)

    @property
    def trials(self) -> int:
        """Trials in all."""
        return sum(row.staged + row.baseline + row.confirmations for row in self.budgets)

    def table(self) -> Table:
        """One row a budget."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("budget", "staged trials", "baseline trials", "confirmations", "full trainings"):
            table.add_column(title, justify="right")
        for row in self.budgets:
            table.add_row(row.budget, str(row.staged), str(row.baseline), str(row.confirmations), f"{row.planned:.2f}")
        return table

    def summary(self, space: SearchSpace, workers: int | None = None) -> str:
        """Cost, what is shared, and time, in sentences; `workers`: trials side by side, by default what this machine holds."""
        resources, shared = space.resources, 1 - self.executed / self.planned
        count = workers or max(1, (os.cpu_count() or 1) // resources.cpus)
        each = f"{resources.cpus} CPU" + (f" and {resources.gpus:g} GPU" if resources.gpus else "")
        hint = "" if space.search.learning_rate_grid else "; only equal learning rates share: search.learning_rate_grid"
        return (
            f"{self.trials} trials that would cost {self.planned:.2f} full trainings each by itself; about {self.executed:.2f} "
            f"will be trained and {shared:.0%} shared (estimated with random accuracies{hint})\n"
            f"about {self.seconds / count / 60:.1f} min with {count} side by side ({each} each), from step times measured here"
        )


def forecast(space: SearchSpace) -> Forecast:
    """Search as a sweep would, with accuracies drawn at random, and add up what its plans cost.

    Real searches concentrate on what is good, and share more. Time is from two measured step times on the device at hand
    (full model and lowest rates), linear in FLOPs between them, and what goes on around each trial.
    """
    found = Forecast([BudgetForecast(str(budget)) for budget in space.budgets])
    overhead, per_flop = _calibrated(space)
    rows = {row.budget: row for row in found.budgets}
    trained: set[str] = set()
    plans: dict[str, Plan] = {}

    def plan_of(trial: Trial) -> Plan:
        plans[trial.id] = compiled(trial, space)[1]
        return plans[trial.id]

    accuracies = random.Random(space.search.seed)
    work = SharedWork(Search(space), plan_of, hold=False)
    while isinstance(trial := work.next(), Trial):
        plan, row = plans.pop(trial.id), rows[str(trial.budget)]
        row.planned += plan.cost
        if trial.phase == "repeat":
            row.confirmations += 1
        elif trial.kind == "staged":
            row.staged += 1
        else:
            row.baseline += 1
        keys = [*prefix_keys(trial, plan), None]
        for key, segment in zip(keys, plan.segments, strict=True):
            if key is None or key not in trained or not space.store_gb:
                found.executed += segment.flops / plan.full_flops
                found.seconds += segment.steps * overhead + segment.flops * per_flop
            if key is not None:
                trained.add(key)
        found.seconds += TRIAL_OVERHEAD_SECONDS
        work.finished(synthetic_record(trial, plan, accuracies.random()))
    return found


def _calibrated(space: SearchSpace) -> tuple[float, float]:
    """Seconds of a step whatever its size, and seconds a FLOP."""
    torch.set_num_threads(space.resources.cpus)
    task, device = Task(space.task), device_for(space.resources.gpus)
    lowest = space.search.rates_at(dict.fromkeys(AXES, 0))
    full_seconds, full_flops = step_seconds(task, Rates(), device), task.step_cost(Rates()).flops
    if lowest.full:
        return 0.0, full_seconds / full_flops
    low_seconds, low_flops = step_seconds(task, lowest, device), task.step_cost(lowest).flops
    low_seconds = min(low_seconds, full_seconds)
    per_flop = (full_seconds - low_seconds) / (full_flops - low_flops)
    return max(0.0, full_seconds - per_flop * full_flops), per_flop


def synthetic_record(trial: Trial, plan: Plan, accuracy: float) -> Record:
    """What a worker would have written, had the training ended with this accuracy."""
    stages = tuple(
        StageOutcome(rates=s.rates, steps=s.steps, step_flops=s.step_flops, flops=s.flops, seconds=0.0, mean_loss=0.0)
        for s in plan.stages()
    )
    outcome = Outcome(
        validation_accuracy=accuracy,
        test_accuracy=accuracy,
        planned_flops=plan.flops,
        executed_flops=plan.flops,
        full_flops=plan.full_flops,
        steps=plan.steps,
        train_seconds=1.0,
        evaluation_seconds=0.0,
        stages=stages,
    )
    now = time.time()
    return Record(
        trial=trial,
        status="completed",
        outcome=outcome,
        started=now,
        finished=now,
        worker="",
        device="",
        plan=plan.digest(),
    )
