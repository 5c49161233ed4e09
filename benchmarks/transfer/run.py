"""Do the ranks of schedules carry over from a cheaper task, a proxy, to the target? Two targets, 24 schedules, 20 proxies.

    python benchmarks/transfer/run.py --table                  prints the tables from results.csv, in seconds
    python benchmarks/transfer/run.py --run [--seeds 5]        trains what is missing; resumes when interrupted

Fractals are the task of benchmarks/methods (copies.yaml) at 25 %. Fashion-MNIST are 5,000 of its training images for ten epochs
at 25 %; EXPLORER_FASHION_MNIST is the folder of its files (see benchmarks/ablations/fashion.py). Every schedule is trained with
the recipe's learning rate and batch size; for a narrower model, the rate is divided by the ratio of the widths. One seed of
everything takes about an hour and a half on one core.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from explorer import Budget, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.data.resident import ResidentData
from explorer.data.subset import stratified_subset
from explorer.frontier.trials import describe
from explorer.search.proposal import distributions, schedule_for
from explorer.spec.search_space import RateLevels
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "ablations")]
RESULTS = FOLDER / "results.csv"
COLUMNS = ["task", "proxy", "schedule", "seed", "cost", "validation_accuracy", "test_accuracy", "seconds", "stages"]
SPACES = {"fractals": FOLDER.parent / "methods" / "copies.yaml", "fashion": FOLDER / "fashion.yaml"}
TARGET = "target"
BUDGET = Budget(0.25)
FIRST_SEED = 200
"""Seeds that no search has used."""
WIDTH, DEPTH = 64, 4
"""Of the targets."""
IMAGE_SIZES = {"fractals": 16, "fashion": 14}
"""Half of the targets' sides, with a quarter of their patches."""


@dataclass(frozen=True)
class Proxy:
    """A task that differs from its target in some of these."""

    images: float = 1.0
    """Share of the training images."""
    epochs: float = 1.0
    """Share of the epochs."""
    width: int = WIDTH
    depth: int = DEPTH
    small_images: bool = False
    """Whether the images have half of the target's side."""


PROXIES: Mapping[str, Proxy] = {
    TARGET: Proxy(),
    "images 1/4": Proxy(images=1 / 4),
    "epochs 1/4": Proxy(epochs=1 / 4),
    "half the width": Proxy(width=32),
    "half the depth": Proxy(depth=2),
    "half the image size": Proxy(small_images=True),
    "images and epochs 1/2": Proxy(images=1 / 2, epochs=1 / 2),
    "images 1/2, half the depth": Proxy(images=1 / 2, depth=2),
    "images 1/16": Proxy(images=1 / 16),
    "epochs 1/16": Proxy(epochs=1 / 16),
    "a quarter of the width": Proxy(width=16),
    "images and epochs 1/4": Proxy(images=1 / 4, epochs=1 / 4),
    "images 1/4, half the width": Proxy(images=1 / 4, width=32),
    "images 1/4, half the image size": Proxy(images=1 / 4, small_images=True),
    "images 1/2, half the width and depth": Proxy(images=1 / 2, width=32, depth=2),
    "images 1/64": Proxy(images=1 / 64),
    "epochs 1/64": Proxy(epochs=1 / 64),
    "images and epochs 1/8": Proxy(images=1 / 8, epochs=1 / 8),
    "images and epochs 1/4, half the width": Proxy(images=1 / 4, epochs=1 / 4, width=32),
    "images 1/8, half the width and depth": Proxy(images=1 / 8, width=32, depth=2),
    "images 1/4, half the width and image size": Proxy(images=1 / 4, width=32, small_images=True),
}
"""In the order of their cost. A quarter of the depth is one block, which has no depth to stage."""


def staged(*stages: tuple[float, float, float, float, float]) -> Schedule:
    """A schedule from a share of the budget and rates of heads, MLP channels, tokens and blocks for each stage."""
    return Schedule(
        stages=tuple(
            Stage(rates=Rates(heads=heads, mlp=mlp, tokens=tokens, depth=depth), duration_ratio=share)
            for share, heads, mlp, tokens, depth in stages
        ),
        grid=20,
    )


FULL = (1.0, 1.0, 1.0, 1.0)
BY_HAND = (
    Schedule.full_model(20),
    staged((0.6, 0.25, 0.25, 0.25, 0.25), (0.4, *FULL)),
    staged((0.6, 0.25, 0.25, 0.5, 0.5), (0.4, *FULL)),
    staged((0.35, 0.5, 0.5, 0.5, 1), (0.35, 0.75, 0.75, 0.75, 1), (0.3, *FULL)),
    staged((0.35, 0.25, 0.25, 0.25, 1), (0.35, 0.5, 0.5, 0.5, 1), (0.3, *FULL)),
    staged((0.35, 0.25, 0.25, 1, 1), (0.35, 0.5, 0.5, 1, 1), (0.3, *FULL)),
    staged((0.35, 1, 1, 0.25, 1), (0.35, 1, 1, 0.5, 1), (0.3, *FULL)),
    staged((0.35, 1, 1, 1, 0.25), (0.35, 1, 1, 1, 0.5), (0.3, *FULL)),
)
DRAWN = 16
"""Number of schedules that are drawn at random, besides those by hand."""


@lru_cache
def schedules() -> tuple[Schedule, ...]:
    """The schedules by hand, and others drawn from the space of all axes: the same for all tasks and seeds."""
    levels = (0.25, 0.5, 0.75, 1.0)
    search = SearchSpace.load(SPACES["fractals"]).search.model_copy(
        update={"rates": RateLevels(heads=levels, mlp=levels, tokens=levels, depth=levels)}
    )
    names = [
        name for name in distributions(search, "staged") if name.startswith(("duration", "heads", "mlp", "tokens", "depth"))
    ]
    drawn: list[Schedule] = []
    numbers = random.Random(0)
    while len(drawn) < DRAWN:
        schedule = schedule_for(search, "staged", {name: numbers.random() for name in names})
        if len(schedule.stages) > 1 and schedule not in (*BY_HAND, *drawn):
            drawn.append(schedule)
    return (*BY_HAND, *drawn)


def task_of(name: str, proxy: Proxy) -> Task:
    """A target, or its proxy, with the subset of the training images."""
    spec = SearchSpace.load(SPACES[name]).task
    recipe, model, data = spec.recipe, spec.model, spec.data
    learning_rate = recipe.learning_rate * WIDTH / proxy.width
    recipe = recipe.model_copy(update={"epochs": recipe.epochs * proxy.epochs, "learning_rate": learning_rate})
    model = model.model_copy(update={"options": {**model.options, "embed_dim": proxy.width, "depth": proxy.depth}})
    if proxy.small_images:
        data = data.model_copy(update={"image_size": IMAGE_SIZES[name]})
    task = Task(TaskSpec(model=model, data=data, recipe=recipe, staging=spec.staging))
    if proxy.images < 1:
        task.data = subset_of(task.data, proxy.images)
    return task


def subset_of(data: ResidentData, share: float) -> ResidentData:
    """The same data set with a stratified subset of its training images."""
    chosen = torch.tensor(stratified_subset(data.labels["train"].tolist(), share, data.class_names))
    return ResidentData(
        {**data.images, "train": data.images["train"][chosen]},
        {**data.labels, "train": data.labels["train"][chosen]},
        data.classes,
        data.class_names,
    )


def missing(tasks: list[str], proxies: list[str], seeds: int) -> Iterator[tuple[str, str, int, int]]:
    """Task, proxy, number of the schedule, and seed of the trainings that are not stored yet, one seed of everything first."""
    with RESULTS.open(encoding="utf-8") as file:
        stored = {(row["task"], row["proxy"], int(row["schedule"]), int(row["seed"])) for row in csv.DictReader(file)}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for proxy in proxies:
            for task in tasks:
                for number in range(len(schedules())):
                    if (task, proxy, number, seed) not in stored:
                        yield task, proxy, number, seed


def run(tasks: list[str], proxies: list[str], seeds: int) -> None:
    """Train what is missing; each result is appended as it ends."""
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    opened = lru_cache(maxsize=1)(
        lambda name, proxy: (task_of(name, PROXIES[proxy]), Task(SearchSpace.load(SPACES[name]).task))
    )
    for name, proxy, number, seed in missing(tasks, proxies, seeds):
        task, target = opened(name, proxy)
        schedule = schedules()[number]
        plan = compile_plan(schedule, task, BUDGET, task.step_cost)
        full = target.epochs * target.train_images * target.step_cost(Rates()).flops / target.batch_size
        started = time.perf_counter()
        result = train(task, plan, seed=seed)
        row: list[Any] = [name, proxy, number, seed, round(plan.flops / full, 6)]
        row += [round(result.validation_accuracy, 6), round(result.test_accuracy, 6)]
        row += [round(time.perf_counter() - started, 2), describe(schedule)]
        with RESULTS.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row)


def main() -> None:
    """Train what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="train what is missing")
    parser.add_argument("--table", action="store_true", help="print the tables of the stored results")
    parser.add_argument("--tasks", nargs="*", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--proxies", nargs="*", choices=list(PROXIES), default=list(PROXIES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run:
        run(options.tasks, options.proxies, options.seeds)


if __name__ == "__main__":
    main()
