"""Ablations of the project's own choices: one fixed schedule, one choice changed at a time, differences paired by seed.

    python benchmarks/ablations/run.py [--task digits] [--seeds 10] [--only cosine ...]    resumes when interrupted
    python benchmarks/ablations/run.py [--task digits] --table    print the table from the stored results, in a second

Ten seeds take 45 minutes on one idle core on fractals, ten on digits.

The tasks are fractals (that of benchmarks/methods) at 25 % and digits (that of the demo) at 10 %, both of CI size. Learning
rate and batch size are those of the search space.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from explorer import Budget, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.plan import Plan
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task

FOLDER = Path(__file__).parent
SPACES = {"fractals": FOLDER.parent / "methods" / "all.yaml", "digits": FOLDER.parents[1] / "search_spaces" / "digits.yaml"}
BUDGETS = {"fractals": Budget(0.25), "digits": Budget(0.1)}
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


REFERENCE = "reference"
LEVELS, SHARES = (0.5, 0.75, 1.0), (0.38, 0.34, 0.28)
"""The fixed schedule. Its shares are not multiples of 1/5 or 1/20, so that these grids have to round them."""
PEAKS = (1e-3, 4e-3)
"""Learning rates at which linear and wsd are compared, in addition to 2e-3 of both search spaces."""


@dataclass(frozen=True)
class Variant:
    """A variant of the reference with one choice changed."""

    asks: str
    """The choice that is changed."""
    schedule: Schedule = field(default_factory=lambda: staged(LEVELS, SHARES))
    staging: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the model, for another size or initialization at the same FLOPs."""
    change: Callable[[Plan], Plan] = lambda compiled: compiled


def in_epochs(compiled: Plan) -> Plan:
    """The plan with a learning rate that depends on the number of images instead of the budget spent."""
    done, segments = 0, []
    for segment in compiled.segments:
        after = done + segment.steps
        segments.append(replace(segment, start_time=done / compiled.steps, end_time=after / compiled.steps))
        done = after
    return replace(compiled, segments=tuple(segments))


VARIANTS = {
    REFERENCE: Variant("three stages, grid 20, leading, initial, linear, budget time"),
    "grid 5": Variant("grid", staged(LEVELS, SHARES, 5)),
    "grid 50": Variant("grid", staged(LEVELS, SHARES, 50)),
    "two stages": Variant("stages", staged((0.5, 1.0), (0.72, 0.28))),
    "four stages": Variant("stages", staged((0.25, 0.5, 0.75, 1.0), (0.24, 0.24, 0.24, 0.28))),
    "three stages from .25": Variant("stages", staged((0.25, 0.5, 1.0), (0.36, 0.36, 0.28))),
    "random subset": Variant("subset", staging={"subset": "random"}),
    "important subset": Variant("subset", staging={"subset": "importance"}),
    "zero-init growth": Variant("growth", staging={"growth": "zero"}),
    "cosine": Variant("learning-rate schedule", recipe=lr_schedule("cosine")),
    "wsd": Variant("learning-rate schedule", recipe=lr_schedule("wsd")),
    **{
        f"{kind} at {peak:g}": Variant("learning-rate schedule", recipe=lr_schedule(kind, peak))
        for kind in ("linear", "wsd")
        for peak in PEAKS
    },
    "rate in epochs": Variant("learning rate over", change=in_epochs),
    "baseline": Variant("staging", Schedule.full_model(20)),
    "baseline, batch 8": Variant("staging", Schedule.full_model(20), recipe={"batch_size": 8}),
    "baseline, wsd": Variant("learning-rate schedule", Schedule.full_model(20), recipe=lr_schedule("wsd")),
    "timm's initialization": Variant("initialization", options={"weight_init": ""}),
    "baseline, timm's initialization": Variant("initialization", Schedule.full_model(20), options={"weight_init": ""}),
    "one block, never grown": Variant("staging", Schedule.full_model(20), options={"depth": 1}),
}


def accuracy(variant: Variant, task_name: str, seed: int) -> float:
    """Test accuracy of one training run."""
    base = SearchSpace.load(SPACES[task_name]).task.model_dump(exclude_unset=True)
    spec = TaskSpec.model_validate(
        {**base, "recipe": {**base["recipe"], **variant.recipe}, "staging": {**base.get("staging", {}), **variant.staging}}
    )
    full = Task(spec)
    budget = Budget(float(compile_plan(variant.schedule, full, BUDGETS[task_name], full.step_cost).budget_cost), "FLOPs")
    model = spec.model.model_copy(update={"options": {**spec.model.options, **variant.options}})
    task = Task(spec.model_copy(update={"model": model}))
    return train(task, variant.change(compile_plan(variant.schedule, task, budget, task.step_cost)), seed=seed).test_accuracy


def paired_interval(ours: pd.Series, theirs: pd.Series) -> tuple[float, float, float]:
    """Mean difference over seeds, and the bounds of its 95 % interval (Student's t)."""
    paired = ours - theirs
    half = stats.t.ppf(0.975, len(paired) - 1) * paired.sem()
    return paired.mean(), paired.mean() - half, paired.mean() + half


def differences(results: pd.DataFrame) -> pd.DataFrame:
    """Compare each variant with the reference, paired by seed.

    Columns: variant, asks, seeds, test (mean accuracy), difference, low, high (95 % interval, Student's t), verdict.
    """
    wide = results.pivot(index="seed", columns="variant", values="test_accuracy")
    rows = []
    for name in (each for each in VARIANTS if each in wide):
        both = wide[[name, REFERENCE]].dropna() if name != REFERENCE else wide[[name]].dropna()
        row = {"variant": name, "asks": VARIANTS[name].asks, "seeds": len(both), "test": both[name].mean()}
        if name != REFERENCE and len(both) > 1:
            mean, low, high = paired_interval(both[name], both[REFERENCE])
            verdict = "too close to call" if low <= 0 <= high else "better" if low > 0 else "worse"
            row |= {"difference": mean, "low": low, "high": high, "verdict": verdict}
        rows.append(row)
    return pd.DataFrame(rows)


def tuned_lr_schedules(results: pd.DataFrame) -> str:
    """Compare wsd with linear, each at its best of three learning rates, paired by the seeds that all variants have."""
    wide = results.pivot(index="seed", columns="variant", values="test_accuracy")
    names = {kind: [f"{kind} at {peak:g}" for peak in PEAKS] for kind in ("linear", "wsd")}
    names["linear"].append(REFERENCE)
    names["wsd"].append("wsd")
    if not {*names["linear"], *names["wsd"]} <= set(wide):
        return ""
    wide = wide[[*names["linear"], *names["wsd"]]].dropna()
    linear, wsd = (wide[tried].mean().idxmax() for tried in names.values())
    mean, low, high = (100 * value for value in paired_interval(wide[wsd], wide[linear]))
    return f"{wsd} - {linear}: {mean:+.1f} ({low:+.1f} to {high:+.1f}), {len(wide)} seeds"


def main() -> None:
    """Train the missing variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(SPACES), default="fractals")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--table", action="store_true", help="print the table without training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = FOLDER / f"{options.task}.csv"
    if not kept.exists():
        kept.write_text("variant,seed,test_accuracy\n", encoding="utf-8")
    known = set(pd.read_csv(kept)[["variant", "seed"]].itertuples(index=False, name=None))
    for seed in range(FIRST_SEED, FIRST_SEED + (0 if options.table else options.seeds)):
        for name in (each for each in options.only if (each, seed) not in known):
            row = name, seed, round(accuracy(VARIANTS[name], options.task, seed), 6)
            with kept.open("a", newline="", encoding="utf-8") as file:  # for several processes
                csv.writer(file, lineterminator="\n").writerow(row)
    results = pd.read_csv(kept)
    print("| variant | seeds | test accuracy | difference | 95 % interval | |\n| --- | --- | --- | --- | --- | --- |")
    for row in differences(results).replace({np.nan: None}).itertuples():
        shown = "| |"
        if row.low is not None:  # two seeds at least
            shown = f"{100 * row.difference:+.1f} | {100 * row.low:+.1f} to {100 * row.high:+.1f} | {row.verdict}"
        print(f"| {row.variant} | {row.seeds} | {100 * row.test:.1f} | {shown} |")
    print(tuned_lr_schedules(results))


if __name__ == "__main__":
    main()
