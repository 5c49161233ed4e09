"""What the ablations share: tasks, budgets, schedules, and the training of one variant.

The tasks are fractals (that of benchmarks/methods) at 25 %, digits (that of the demo) at 10 %, both of CI size, and
Fashion-MNIST at 25 % of one epoch (its files: ../fashion_mnist/prepare.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from explorer import Budget, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.plan import Plan
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.result import TrainingResult
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "fashion_mnist"))  # where fashion.yaml finds its data source
SPACES = {
    "fractals": FOLDER.parent / "methods" / "all.yaml",
    "digits": FOLDER.parents[1] / "search_spaces" / "digits.yaml",
    "fashion": FOLDER / "fashion.yaml",
}
BUDGETS = {"fractals": Budget(0.25), "digits": Budget(0.1), "fashion": Budget(0.25)}
"""Budgets at which accuracies are far from saturation."""
FIRST_SEED = 100
"""Seeds that no search has used."""


def staged(levels: tuple[float, ...], shares: tuple[float, ...], grid: int = 20) -> Schedule:
    """A schedule with the same rate for heads, MLP channels, and tokens, and with shares rounded to the grid."""
    stages = [Stage(rates=Rates(heads=r, mlp=r, tokens=r), duration_ratio=s) for r, s in zip(levels, shares, strict=True)]
    exact = Schedule(stages=tuple(stages), grid=grid)
    on_grid = [s.model_copy(update={"duration_ratio": u / grid}) for s, u in zip(stages, exact.slots(), strict=True) if u]
    return Schedule(stages=tuple(on_grid), grid=grid)


def lr_schedule(kind: str, learning_rate: float | None = None) -> dict[str, Any]:
    """Recipe settings of a learning-rate schedule, with its peak if it differs from that of the search space."""
    return {"lr_schedule": {"kind": kind, "warmup": 0.05}} | ({"learning_rate": learning_rate} if learning_rate else {})


LEVELS, SHARES = (0.5, 0.75, 1.0), (0.38, 0.34, 0.28)
"""The fixed schedule. Its shares are not multiples of 1/5 or 1/20, so that these grids have to round them."""


@dataclass(frozen=True)
class Variant:
    """A variant of the reference with one choice changed."""

    asks: str
    """The choice that is changed."""
    schedule: Schedule = field(default_factory=lambda: staged(LEVELS, SHARES))
    staging: Mapping[str, str] = field(default_factory=lambda: {"growth": "initial"})
    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model, for another size or initialization at the same FLOPs."""
    change: Callable[[Plan], Plan] = lambda compiled: compiled


def trained(variant: Variant, task_name: str, seed: int) -> TrainingResult:
    """Result of one training run."""
    base = SearchSpace.load(SPACES[task_name]).task.model_dump(exclude_unset=True)
    spec = TaskSpec.model_validate(
        {**base, "recipe": {**base["recipe"], **variant.recipe}, "staging": {**base.get("staging", {}), **variant.staging}}
    )
    full = Task(spec)
    budget = Budget(float(compile_plan(variant.schedule, full, BUDGETS[task_name], full.step_cost).budget_cost), "FLOPs")
    model = spec.model.model_copy(update={"options": {**spec.model.options, **variant.options}})
    task = Task(spec.model_copy(update={"model": model}))
    return train(task, variant.change(compile_plan(variant.schedule, task, budget, task.step_cost)), seed=seed)


def verdict(low: float, high: float) -> str:
    """What the bounds of a difference decide."""
    return "too close to call" if low <= 0 <= high else "better" if low > 0 else "worse"


def difference_cells(mean: float, low: float, high: float) -> str:
    """A difference in points, its interval and its verdict, as cells of a table."""
    return f"{100 * mean:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} | {verdict(low, high)}"


def paired_interval(ours: pd.Series, theirs: pd.Series) -> tuple[float, float, float]:
    """Mean difference over seeds, and the bounds of its 95 % interval (Student's t)."""
    paired = ours - theirs
    half = stats.t.ppf(0.975, len(paired) - 1) * paired.sem()
    return paired.mean(), paired.mean() - half, paired.mean() + half
