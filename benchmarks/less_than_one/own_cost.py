"""What sweeps for one schedule have cost, what their schedule saves of each training, and when they have paid.

    python benchmarks/less_than_one/own_cost.py    a few seconds, from stored results

A sweep is asked for a schedule for 25 % of full training. The full model is trained with the same recipe, tuned at each budget:
fractals in ../methods, digits in reports/digits, Fashion-MNIST in ../fashion_mnist. What a training with the schedule saves is
the cost at which the curve of the full model reaches the mean test accuracy of what the sweeps recommend, less the 25 %. All
costs are in counted FLOPs, as shares of full training.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from curves import TEST_IMAGES, curve, over_seeds  # noqa: E402 (a module in the folder of the benchmarks)
from prediction import recorded_curves  # noqa: E402

from explorer.frontier.curve import Match  # noqa: E402
from explorer.frontier.uncertainty import floored_error  # noqa: E402

GOAL = 0.25
FULL_MODELS = {"fractals": "methods: full", "digits": "digits", "fashion": "Fashion-MNIST: full"}
"""For each task, the sweep in `prediction.recorded_curves` whose baseline is its full model."""


def recommended(results: pd.DataFrame, test_images: int) -> pd.Series:
    """What some sweeps have cost and recommend for 25 %, as a row of `curves.over_seeds`: its seeds are the sweeps.

    Args:
        results: rows of results.csv, of at least two sweeps of one kind.
        test_images: number of test images, which no interval is narrower than.
    """
    means = results.groupby("seed").test_accuracy.transform("mean")
    of_sweeps = results.assign(test_accuracy=means).drop_duplicates("seed")
    return over_seeds(of_sweeps, ("task", "sweep"), ("cost",), test_images).iloc[0]


def full_model_reaches(task: str, target: pd.Series, curves: pd.DataFrame) -> Match:
    """The cost at which the full model reaches an accuracy; infinite beyond full training.

    Args:
        task: the task.
        target: the accuracy, as `recommended` returns it.
        curves: those of `prediction.recorded_curves`.
    """
    rows = curves[(curves.sweep == FULL_MODELS[task]) & (curves.kind == "baseline")]
    error = floored_error(rows.test_mean, rows.seed_error, rows.seeds, rows.test_images)
    return curve(rows.assign(test_error=error), "cost").cost_to_match(target)


def paid_after(cost: float, reached: Match) -> str:
    """Number of trainings with the schedule after which sweeps of some cost have paid, and the most that it can be."""
    if reached.low <= GOAL:
        return "not decided"
    found, most = (math.ceil(cost / (min(each, 1.0) - GOAL)) for each in (reached.cost, reached.low))
    return f"{found} (at most {most})"


def spread(match: Match, less: float = 0.0) -> str:
    """The cost at which the full model reaches an accuracy, less another cost, with its interval."""
    cost, low, high = (f"{each - less:.2f}" if math.isfinite(each) else f"above {1 - less:g}" for each in match)
    return cost if cost == low == high else f"{cost} ({low} to {high})"


def table(results: pd.DataFrame) -> str:
    """One row for each task and kind of sweep that was run at least twice."""
    titles = ["task", "sweep", "sweeps", "executed, full trainings", "accuracy at 25 %", "the full model reaches it at"]
    titles += ["saved of each training", "has paid after, trainings"]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    curves = recorded_curves()
    for (task, sweep), of_kind in results.groupby(["task", "sweep"], sort=False):
        if of_kind.seed.nunique() < 2:
            continue
        target = recommended(of_kind, TEST_IMAGES[task])
        reached = full_model_reaches(task, target, curves)
        accuracy = f"{100 * target.test_mean:.1f} ({100 * target.test_low:.1f} to {100 * target.test_high:.1f})"
        cells = [
            target.seeds,
            f"{target.cost:.2f}",
            accuracy,
            spread(reached),
            spread(reached, GOAL),
            paid_after(target.cost, reached),
        ]
        lines.append(f"| {task} | {sweep} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(pd.read_csv(FOLDER / "results.csv")))
