"""What `explorer sweep --dry-run` says a sweep will cost, against what sweeps of the same space did cost.

    python benchmarks/dry_run.py    a minute, from the kept results of less_than_one/run.py

A dry run searches with results that are drawn at random. Sweeps are those of less_than_one/results.csv, on fractals and digits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from figures import keep

from explorer.search.forecast import forecast
from explorer.search.machines import Machines, StepTimes

sys.path.append(str(Path(__file__).parent / "less_than_one"))
import run as limited

UNTIMED = Machines(where="", nodes=1, cpus=1, gpus=0, places=1, times=StepTimes(0.0, 0.0, "cpu"))
"""Trials and costs are compared, seconds are not."""


def main() -> None:
    """Print the table."""
    sweeps = pd.read_csv(limited.RESULTS).drop_duplicates(["task", "sweep", "seed"])
    print("| task | sweep | trials: dry run | trials | cost: dry run | cost, full trainings | realised over dry run |")
    print(f"|{' --- |' * 7}")
    ratios = []
    for (task, name), of_name in sweeps.groupby(["task", "sweep"], sort=False):
        if task == "fashion" and "EXPLORER_FASHION_MNIST" not in os.environ:
            print(f"{task}, {name}: left out, EXPLORER_FASHION_MNIST is not set", file=sys.stderr)
            continue
        expected = [forecast(limited.space_of(task, name, seed).as_planned().up_to_goal(), UNTIMED) for seed in of_name.seed]
        costs = [each.spending.spent if each.spending else each.executed for each in expected]
        of_sweeps = of_name.cost / costs
        ratios += list(of_sweeps)
        cells = [
            span([each.trials for each in expected]),
            span(of_name.trials),
            span(costs, ".2f"),
            span(of_name.cost, ".2f"),
            span(of_sweeps, ".2f"),
        ]
        print(f"| {task} | {name} | {' | '.join(cells)} |")
    keep("realised over forecast cost of a sweep, median", float(pd.Series(ratios).median()), 0.02)


def span(values: Iterable[float], style: str = "d") -> str:
    """The smallest and the largest value."""
    low, high = min(values), max(values)
    return f"{low:{style}}" if low == high else f"{low:{style}} to {high:{style}}"


if __name__ == "__main__":
    main()
