"""Train every point of benchmarks/search/space.yaml once and write benchmarks/search/table.csv.

    python benchmarks/search/record.py    about 20 minutes on two CPU cores

Common prefixes are trained once, through the stage store.
"""

from __future__ import annotations

import itertools
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

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
PROCESSES = 2


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


def results(setting: tuple[float, int]) -> list[dict[str, object]]:
    """All trainings of one learning rate and batch size."""
    torch.set_num_threads(1)
    space = SearchSpace.load(FOLDER / "space.yaml")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = StageStore(folder, 10**9)
        for budget, (units, schedule) in itertools.product(space.budgets, schedules(space)):
            trial = Trial(
                id="-".join(map(str, units)),
                phase="search",
                kind="staged",
                budget=str(budget),
                schedule=schedule,
                learning_rate=setting[0],
                batch_size=setting[1],
                seed=space.search.seed,
            )
            task, plan = compile_trial(trial, space)
            done = train(task, plan, seed=trial.seed, store=store)
            rows.append(
                {
                    "budget": str(budget),
                    "learning_rate": f"{setting[0]:.6g}",
                    "batch_size": setting[1],
                    "units": trial.id,
                    "validation_accuracy": round(done.validation, 6),
                    "test_accuracy": round(done.test, 6),
                    "seconds": round(done.seconds, 2),
                }
            )
    return rows


def main() -> None:
    """Record the table."""
    search = SearchSpace.load(FOLDER / "space.yaml").search
    settings = list(itertools.product(search.learning_rates(), search.batch_size))
    with ProcessPoolExecutor(PROCESSES) as pool:
        parts = track(pool.map(results, settings), total=len(settings))
        rows = [row for part in parts for row in part]
    pd.DataFrame(rows).to_csv(FOLDER / "table.csv", index=False)


if __name__ == "__main__":
    main()
