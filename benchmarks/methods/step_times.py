"""Measure the step time of every model size and batch size in results.csv, side by side.

    python benchmarks/methods/step_times.py    a minute on one idle core; writes step_times.csv

Times that trials measured while other work was running are not reliable. Here all sizes are measured in turn in each round, and
the median over the rounds is stored.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import torch

from explorer import Rates, SearchSpace
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from stage_times import milliseconds  # noqa: E402 (a module in the parent folder of a script)


def used(results: pd.DataFrame) -> list[tuple[str, str, int]]:
    """(token policy, rates, batch size) of every stage, with `rates` as in results.csv: heads mlp tokens depth."""
    found = set()
    for row in results.itertuples():
        for part in row.stages.split("; "):
            rates = part.split(" x")[0]
            dropped = float(rates.split()[2]) < 1
            policy = "resize" if dropped and row.method == "resize" else "drop"
            found.add((policy, rates, row.batch_size))
    return sorted(found)


def main() -> None:
    """Measure the step times and write the file."""
    torch.set_num_threads(1)
    space = SearchSpace.load(FOLDER / "all.yaml")
    stages = {}
    for policy, rates, batch in used(pd.read_csv(FOLDER / "results.csv")):
        task = Task(space.task.with_settings(1e-3, batch, {"token_policy": policy}))
        heads, mlp, tokens, depth = map(float, rates.split())
        stages[policy, rates, batch] = task, Rates(heads=heads, mlp=mlp, tokens=tokens, depth=depth)
    rows = [(*stage, time) for stage, time in milliseconds(stages).items()]
    pd.DataFrame(rows, columns=["policy", "rates", "batch_size", "milliseconds"]).to_csv(FOLDER / "step_times.csv", index=False)


if __name__ == "__main__":
    main()
