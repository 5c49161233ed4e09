"""What a curve over five budgets costs if the budgets share a trunk, and whether that costs accuracy.

    python benchmarks/one_trunk.py --table               prints the tables from one_trunk.csv, in seconds
    python benchmarks/one_trunk.py --run [--seeds 3]     trains what is missing, a few minutes per seed on an idle core

Digits, the task of search_spaces/digits.yaml with its own learning rate and batch size, for 10 epochs in place of 40. The full
model, and half of heads, MLPs and tokens for 75 % of the budget, with linear decay, with a cooldown over the
last fifth (wsd), and with the same cooldown and a warmup of .25 % of full training at every budget. With these, the staged
schedule also keeps the cost after which its early stage ends at 5 %, or at 20 %, as promoted schedules do with
`search.durations_of: full_training`.

The costs are computed from the plans. Trainings with a trunk use a stage store, so that their executed cost is measured too. It
writes every state here; in a sweep, writing takes at most a twentieth of the time.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from ablations.fixed_schedule import paired_interval
from curves import TEST_IMAGES
from figures import keep

from explorer import Budget, Plan, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.frontier.uncertainty import floored_error, interval
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.training import stage_store
from explorer.training.loop import train
from explorer.training.task import Task
from explorer.training_key import prefix_keys

FOLDER = Path(__file__).parent
SPACE = FOLDER.parent / "search_spaces" / "digits.yaml"
RESULTS = FOLDER / "one_trunk.csv"
COLUMNS = [
    "schedule",
    "learning_rate_schedule",
    "budget",
    "seed",
    "cost",
    "executed_cost",
    "validation_accuracy",
    "test_accuracy",
]
FIRST_SEED = 100
EPOCHS = 10
BUDGETS = tuple(Budget(share) for share in (0.05, 0.1, 0.2, 0.4, 1.0))
GRID, CHEAPEST = 20, 0.025
"""Slots of each budget, or of this share of full training where slots cost the same at all budgets."""
EARLY_SHARE = 0.75
HALF = Rates(heads=0.5, mlp=0.5, tokens=0.5)
LR_SCHEDULES = {
    "linear": LearningRateSchedule(kind="linear", warmup=0.05),
    "wsd": LearningRateSchedule(kind="wsd", warmup=0.05),
    "one trunk": LearningRateSchedule(kind="wsd", warmup=0.0025, warmup_of="full_training"),
}


class Curve(NamedTuple):
    """The trainings of one schedule and learning-rate schedule, from the cheapest budget up."""

    schedule: str
    lr_schedule: str
    early_cost: float | None
    """Cost of the early stage in full trainings; `None` for a share of each budget."""
    smallest: float
    """Smallest budget."""


CURVES = (
    *(Curve("full model", name, None, 0.05) for name in LR_SCHEDULES),
    *(Curve("staged", name, None, 0.05) for name in LR_SCHEDULES),
    Curve("staged, as at 5 %", "one trunk", EARLY_SHARE * 0.05, 0.05),
    Curve("staged, as at 20 %", "one trunk", EARLY_SHARE * 0.2, 0.2),
)


def trainings(curve: Curve, space: SearchSpace) -> Iterator[tuple[Budget, Task, Plan]]:
    """The budgets of a curve with their tasks and plans."""
    changes = {"epochs": EPOCHS, "lr_schedule": LR_SCHEDULES[curve.lr_schedule]}
    recipe = space.task.recipe.model_copy(update=changes)
    task = Task(space.task.model_copy(update={"recipe": recipe}))
    for budget in BUDGETS:
        if budget.amount < curve.smallest:
            continue
        grid = GRID if curve.early_cost is None else round(GRID * budget.amount / CHEAPEST)
        share = EARLY_SHARE if curve.early_cost is None else curve.early_cost / budget.amount
        stages = (Stage(rates=HALF, duration_ratio=share), Stage(rates=Rates(), duration_ratio=1 - share))
        schedule = Schedule.full_model(grid) if curve.schedule == "full model" else Schedule(stages=stages, grid=grid)
        yield budget, task, compile_plan(schedule, task, budget, task.step_cost)


def trained_costs(plans: list[Plan]) -> list[float]:
    """Cost in full trainings of what each of the plans trains if it starts from what those before it have trained."""
    known: set[str] = set()
    costs = []
    for plan in plans:
        keys = prefix_keys("", plan.segments)
        reused = max((number for number, key in enumerate(keys, start=1) if key in known), default=0)
        costs.append(sum(segment.flops for segment in plan.segments[reused:]) / plan.full_flops)
        known.update(keys)
    return costs


def run(seeds: int) -> None:
    """Train what is missing in `RESULTS`, seed by seed."""
    torch.set_num_threads(1)
    stage_store.MAX_WRITE_OVERHEAD = math.inf
    space = SearchSpace.load(SPACE)
    done = set(pd.read_csv(RESULTS)[COLUMNS[:4]].itertuples(index=False, name=None)) if RESULTS.exists() else set()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for curve in CURVES:
            of_curve = [((curve.schedule, curve.lr_schedule, str(each[0]), seed), *each) for each in trainings(curve, space)]
            missing = [each for each in of_curve if each[0] not in done]
            with tempfile.TemporaryDirectory() as folder:
                store = stage_store.StageStore(folder, 10**9) if curve.lr_schedule == "one trunk" else None
                for name, _, task, plan in of_curve if missing and store else missing:  # an interrupted trunk from the start
                    result = train(task, plan, seed=seed, store=store)
                    executed = result.executed_flops / plan.full_flops
                    if name not in done:
                        costs = (plan.cost, executed, result.validation, result.test)
                        _add([*name, *(f"{each:.6f}" for each in costs)])
                    print(*name, f"{plan.cost:.4f} {executed:.4f} {result.test:.4f}", flush=True)


def _add(row: list[object]) -> None:
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, row] if is_new else [row])


def table() -> None:
    """Print what curves cost, and their accuracies."""
    space = SearchSpace.load(SPACE)
    print("| schedule | learning rate | budgets | cost, each from the start | cost, shared | saved |")
    print("| --- | --- | --- | --- | --- | --- |")
    for curve in CURVES:
        plans = [plan for _, _, plan in trainings(curve, space)]
        planned, trained = sum(plan.cost for plan in plans), sum(trained_costs(plans))
        first, last = plans[0].budget, plans[-1].budget
        print(
            f"| {curve.schedule} | {curve.lr_schedule} | {first} to {last} | {planned:.2f} | {trained:.2f} | "
            f"{1 - trained / planned:.0%} |"
        )
        if curve.schedule == "full model":
            keep(f"curve of the full model, {curve.lr_schedule}: full trainings", trained, 0.001)
    results = pd.read_csv(RESULTS)
    budgets = [str(budget) for budget in BUDGETS]
    print(f"\n| schedule | learning rate | {' | '.join(budgets)} |\n| --- | --- |{' --- |' * len(budgets)}")
    for curve in CURVES:
        of_curve = results[(results.schedule == curve.schedule) & (results.learning_rate_schedule == curve.lr_schedule)]
        cells = [_interval(of_curve[of_curve.budget == budget].test_accuracy) for budget in budgets]
        print(f"| {curve.schedule} | {curve.lr_schedule} | {' | '.join(cells)} |")

    print(f"\n| one trunk - wsd, points | {' | '.join(budgets)} |\n| --- |{' --- |' * len(budgets)}")
    for curve in CURVES:
        if curve.lr_schedule == "one trunk":
            cells = [_difference(results[results.budget == budget], curve) for budget in budgets]
            print(f"| {curve.schedule} | {' | '.join(cells)} |")


def _difference(results: pd.DataFrame, curve: Curve) -> str:
    """Test accuracy of a curve with a trunk minus that of the same schedule with wsd, paired by seeds; empty without results.

    Args:
        results: those of one budget.
        curve: a curve with a trunk.
    """
    of_schedule = results[results.schedule == curve.schedule.partition(",")[0]]
    shares = of_schedule[of_schedule.learning_rate_schedule == "wsd"].set_index("seed").test_accuracy
    trunk = results[(results.schedule == curve.schedule) & (results.learning_rate_schedule == curve.lr_schedule)]
    if trunk.empty:
        return ""
    mean, low, high = (100 * bound for bound in paired_interval(trunk.set_index("seed").test_accuracy, shares))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _interval(accuracies: pd.Series[float]) -> str:
    """Mean and 95 % interval in %, at least as wide as the test images allow; empty without results."""
    if accuracies.empty:
        return ""
    mean = accuracies.mean()
    error = floored_error(mean, accuracies.sem(), len(accuracies), TEST_IMAGES["digits"])
    low, high = (100 * float(bound) for bound in interval(mean, error, len(accuracies)))
    mean *= 100
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="train what is missing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print the tables")
    options = parser.parse_args()
    if options.run:
        run(options.seeds)
    if options.table or not options.run:
        table()
