"""Do the ranks of schedules carry over from a cheaper task, a proxy, to the target? Two targets, 24 schedules, 20 proxies.

    python benchmarks/transfer/run.py --table                  prints the tables from results.csv, in seconds
    python benchmarks/transfer/run.py --run [--seeds 5]        trains what is missing; resumes when interrupted

Fractals are the task of benchmarks/methods (copies.yaml) at 25 %. Fashion-MNIST are 5,000 of its training images for ten epochs
at 25 %; EXPLORER_FASHION_MNIST is the folder of its files (fashion_mnist/prepare.py). Every schedule is trained with
the recipe's learning rate and batch size; for a narrower model, the rate is divided by the ratio of the widths. One seed of
everything takes about two hours on one core.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from explorer import Budget, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.frontier.trials import describe
from explorer.search.proposal import distributions, schedule_for
from explorer.spec.proxy import Proxy
from explorer.spec.search_settings import RateLevels
from explorer.training.loop import train
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "fashion_mnist")]
from tables import TARGET, tables  # noqa: E402 (a module in the folder of the script)

RESULTS = FOLDER / "results.csv"
COLUMNS = ["task", "proxy", "schedule", "seed", "cost", "validation_accuracy", "test_accuracy", "stages"]
SPACES = {"fractals": FOLDER.parent / "methods" / "copies.yaml", "fashion": FOLDER / "fashion.yaml"}
BUDGET = Budget(0.25)
FIRST_SEED = 200
"""Seeds that no search has used."""
WIDTH = 64
"""Of the targets, which have four blocks. A quarter of the blocks is one, which has no depth to stage."""
SMALL_IMAGES = {"fractals": 16, "fashion": 14}
"""Half of the targets' sides, with a quarter of their patches."""
HALF_WIDTH, HALF_DEPTH, HALF_BOTH = {"embed_dim": 32}, {"depth": 2}, {"embed_dim": 32, "depth": 2}
SMALLER = 1
"""Stands for the image size of a task in `SMALL_IMAGES`."""
PROXIES: Mapping[str, Proxy | None] = {
    TARGET: None,
    "images 1/4": Proxy(images=1 / 4),
    "epochs 1/4": Proxy(epochs=1 / 4),
    "half the width": Proxy(model=HALF_WIDTH),
    "half the depth": Proxy(model=HALF_DEPTH),
    "half the image size": Proxy(image_size=SMALLER),
    "images and epochs 1/2": Proxy(images=1 / 2, epochs=1 / 2),
    "images 1/2, half the depth": Proxy(images=1 / 2, model=HALF_DEPTH),
    "images 1/16": Proxy(images=1 / 16),
    "epochs 1/16": Proxy(epochs=1 / 16),
    "a quarter of the width": Proxy(model={"embed_dim": 16}),
    "images and epochs 1/4": Proxy(images=1 / 4, epochs=1 / 4),
    "images 1/4, half the width": Proxy(images=1 / 4, model=HALF_WIDTH),
    "images 1/4, half the image size": Proxy(images=1 / 4, image_size=SMALLER),
    "images 1/2, half the width and depth": Proxy(images=1 / 2, model=HALF_BOTH),
    "images 1/64": Proxy(images=1 / 64),
    "epochs 1/64": Proxy(epochs=1 / 64),
    "images and epochs 1/8": Proxy(images=1 / 8, epochs=1 / 8),
    "images and epochs 1/4, half the width": Proxy(images=1 / 4, epochs=1 / 4, model=HALF_WIDTH),
    "images 1/8, half the width and depth": Proxy(images=1 / 8, model=HALF_BOTH),
    "images 1/4, half the width and image size": Proxy(images=1 / 4, model=HALF_WIDTH, image_size=SMALLER),
}
"""At about 1/4, 1/16 and 1/64 of the target's cost; half the depth is at 1/2."""


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
    starts = ("duration", "heads", "mlp", "tokens", "depth")
    names = [name for name in distributions(search, "staged") if name.startswith(starts)]
    drawn: list[Schedule] = []
    numbers = random.Random(0)
    while len(drawn) < DRAWN:
        schedule = schedule_for(search, "staged", {name: numbers.random() for name in names})
        if len(schedule.stages) > 1 and schedule not in (*BY_HAND, *drawn):
            drawn.append(schedule)
    return (*BY_HAND, *drawn)


def task_of(name: str, proxy: Proxy | None = None) -> Task:
    """A target, or its proxy."""
    target = SearchSpace.load(SPACES[name]).task
    if proxy is None:
        return Task(target)
    if proxy.image_size == SMALLER:
        proxy = proxy.model_copy(update={"image_size": SMALL_IMAGES[name]})
    spec = proxy.task(target)
    learning_rate = spec.recipe.learning_rate * WIDTH / spec.model.options["embed_dim"]
    return Task(spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"learning_rate": learning_rate})}))


def missing(tasks: Sequence[str], proxies: Sequence[str], seeds: int) -> Iterator[tuple[str, str, int, int]]:
    """Task, proxy, number of the schedule, and seed of the trainings that are not stored yet, one seed of everything first."""
    with RESULTS.open(encoding="utf-8") as file:
        stored = {(row["task"], row["proxy"], int(row["schedule"]), int(row["seed"])) for row in csv.DictReader(file)}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for proxy in proxies:
            for task in tasks:
                for number in range(len(schedules())):
                    if (task, proxy, number, seed) not in stored:
                        yield task, proxy, number, seed


def run(tasks: Sequence[str], proxies: Sequence[str], seeds: int) -> None:
    """Train what is missing; each result is appended as it ends."""
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    opened = lru_cache(maxsize=1)(lambda name, proxy: (task_of(name, PROXIES[proxy]), task_of(name)))
    for name, proxy, number, seed in missing(tasks, proxies, seeds):
        task, target = opened(name, proxy)
        schedule = schedules()[number]
        plan = compile_plan(schedule, task, BUDGET, task.step_cost)
        full = target.epochs * target.train_images * target.step_cost(Rates()).flops / target.batch_size
        result = train(task, plan, seed=seed)
        accuracies = (round(value, 6) for value in (result.validation, result.test))
        row = [name, proxy, number, seed, round(plan.flops / full, 6), *accuracies, describe(schedule)]
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
    if options.table or not options.run:
        print(tables(RESULTS, list(PROXIES)))


if __name__ == "__main__":
    main()
