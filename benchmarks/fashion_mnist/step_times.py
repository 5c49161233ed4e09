"""Measure the step time of every stage in results.csv, side by side.

    python benchmarks/fashion_mnist/step_times.py    some minutes on one core; writes step_times.csv

The stages of all methods and optimizers are measured in turn in each round, and the median over the rounds is stored. Methods
that do the same step have the same time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

from explorer import Rates
from explorer.spec.rates import AXES
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from methods import muon_in_float32, space_of, stages_of  # noqa: E402 (a module in the folder of the script)
from stage_times import milliseconds  # noqa: E402

ROUNDS = 9
COLUMNS = ["method", "optimizer", "rates", "batch_size"]


def used(results: pd.DataFrame) -> list[tuple[str, str, str, int]]:
    """`COLUMNS` of every stage, with `rates` as in results.csv: heads, MLP, tokens, depth."""
    runs = results.itertuples()
    return sorted({(run.method, run.optimizer, rates, batch) for run in runs for rates, batch, _ in stages_of(run.stages)})


def main() -> None:
    """Measure the step times and write the file."""
    torch.set_num_threads(1)
    muon_in_float32()
    stages, same = {}, {}
    for stage in used(pd.read_csv(FOLDER / "results.csv")):
        method, optimizer, rates, batch = stage
        spec = space_of(method, optimizer).task.with_settings(1e-3, batch, {})
        same[stage] = step = (spec.model_dump_json(), rates)
        stages[step] = Task(spec), Rates(**dict(zip(AXES, map(float, rates.split()), strict=True)))
    times = milliseconds(stages, ROUNDS)
    rows = [(*stage, times[step]) for stage, step in same.items()]
    pd.DataFrame(rows, columns=[*COLUMNS, "milliseconds"]).to_csv(FOLDER / "step_times.csv", index=False)


if __name__ == "__main__":
    main()
