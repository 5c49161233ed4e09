"""Train every point of a search space of this folder once, into <task>_table.csv.

    python benchmarks/search/record.py                  digits: 31 minutes on two CPU cores
    python benchmarks/search/record.py --task fashion   45 minutes on one core

The points are all schedules, learning rates, batch sizes and budgets of the space. On its proxies, schedules and budgets alone,
as in a search. Common prefixes are trained once, through the stage store. What is stored is not trained again: the table grows
by all trainings with one learning rate and batch size at a time.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from rich.progress import track

from explorer import Rates, Schedule, SearchSpace
from explorer.ledger import Trial
from explorer.search.trial_plan import compile_trial
from explorer.spec.schedule import Stage
from explorer.training.loop import train
from explorer.training.stage_store import StageStore

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER))
from recorded import TASKS, trained_on  # noqa: E402 (a script's neighbour)


class Part(NamedTuple):
    """Trainings that have the task, the learning rate and the batch size in common."""

    task: str
    proxy: int | None
    learning_rate: float
    batch_size: int


def schedules(space: SearchSpace) -> list[tuple[tuple[int, ...], Schedule]]:
    """Every schedule of the space, by the grid slots of each level; neighbours have a common prefix."""
    grid, levels = space.search.grid, space.search.rates.heads
    every_schedule = []
    for low in range(grid):
        for middle in range(grid - low):
            units = (low, middle, grid - low - middle)
            stages = tuple(
                Stage(rates=Rates(heads=rate, mlp=rate, tokens=rate), duration_ratio=count / grid)
                for rate, count in zip(levels, units, strict=True)
                if count
            )
            every_schedule.append((units, Schedule(stages=stages, grid=grid)))
    return every_schedule


def parts(task: str) -> list[Part]:
    """What is trained for a task."""
    space = SearchSpace.load(FOLDER / f"{task}.yaml")
    settings = itertools.product(space.search.learning_rates(), space.search.batch_size)
    recipe = space.task.recipe
    of_proxies = [Part(task, number, recipe.learning_rate, recipe.batch_size) for number in range(1, len(space.proxy) + 1)]
    return [Part(task, None, *setting) for setting in settings] + of_proxies


def results(part: Part) -> list[dict[str, object]]:
    """All trainings of a part."""
    torch.set_num_threads(1)
    space = SearchSpace.load(FOLDER / f"{part.task}.yaml")
    on_task, learning_rate, batch_size = settings_of(part)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = StageStore(folder, 10**9)
        for budget, (units, schedule) in itertools.product(space.budgets, schedules(space)):
            trial = Trial(
                id="-".join(map(str, units)),
                phase="search",
                kind="staged",
                budget=budget,
                proxy=part.proxy,
                schedule=schedule,
                learning_rate=part.learning_rate,
                batch_size=part.batch_size,
                seed=space.search.seed,
            )
            task, plan = compile_trial(trial, space)
            done = train(task, plan, seed=trial.seed, store=store)
            rows.append(
                {
                    "task": on_task,
                    "budget": str(budget),
                    "learning_rate": learning_rate,
                    "batch_size": batch_size,
                    "units": trial.id,
                    "validation_accuracy": round(done.validation, 6),
                    "test_accuracy": round(done.test, 6),
                    "seconds": round(done.seconds, 2),
                }
            )
    return rows


def missing(task: str, kept: Path) -> list[Part]:
    """The parts of a task that are not stored yet."""
    if not kept.exists():
        return parts(task)
    rows = pd.read_csv(kept, dtype=str)
    stored = set(zip(rows.task, rows.learning_rate, rows.batch_size, strict=True))
    return [part for part in parts(task) if settings_of(part) not in stored]


def settings_of(part: Part) -> tuple[str, str, str]:
    """What tells a part from the others, as it stands in the table."""
    return trained_on(part.proxy), f"{part.learning_rate:.6g}", str(part.batch_size)


def main() -> None:
    """Record what is missing of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    kept = FOLDER / f"{options.task}_table.csv"
    left = missing(options.task, kept)
    with ProcessPoolExecutor(options.processes) as pool:
        for rows in track(pool.map(results, left), total=len(left)):
            pd.DataFrame(rows).to_csv(kept, mode="a", header=not kept.exists(), index=False)


if __name__ == "__main__":
    main()
