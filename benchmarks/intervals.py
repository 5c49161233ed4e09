"""Do 95 % intervals hold what they promise? Measured on recorded trainings with five to twenty seeds.

    python benchmarks/intervals.py    seconds, from kept results

From every group of trainings that differ in their seed alone, all choices of a few seeds are taken. `run`: how many of the
other trainings are within the interval that `best` and the verdict of production state for one more run, with its floor from
the number of test images, and without. `mean`: how often the mean of the other seeds differs by no more than Student's t allows
for two means of these numbers of seeds; a report's interval of a mean is of the same t. Groups have the same weight. The bounds
are percentiles over groups that are drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from curves import TEST_IMAGES
from figures import keep
from scipy import stats

from explorer.frontier.uncertainty import percentiles, run_interval

FOLDER = Path(__file__).parent
SEEDS = (2, 3, 5)
"""Numbers of seeds that intervals are made from."""
MIN_GROUP = 5
"""Smallest number of seeds of a group: one more than the intervals are made from."""
SOURCES = {
    "methods/results.csv": (["method", "budget"], TEST_IMAGES["fractals"]),
    "ablations/digits.csv": (["variant"], TEST_IMAGES["digits"]),
    "ablations/fractals.csv": (["variant"], TEST_IMAGES["fractals"]),
    "ablations/paper_digits.csv": (["table", "variant", "learning_rate"], TEST_IMAGES["digits"]),
    "ablations/paper_fractals.csv": (["table", "variant", "learning_rate"], TEST_IMAGES["fractals"]),
    "ablations/paper_fashion.csv": (["table", "variant", "learning_rate"], TEST_IMAGES["fashion"]),
    "fashion_mnist/results.csv": (["method", "optimizer", "budget"], TEST_IMAGES["fashion"]),
}
"""Columns that name a group of trainings, and the number of test images, by file."""
DRAWS = 2_000


def groups() -> Iterator[tuple[str, np.ndarray, int]]:
    """File, test accuracies of the seeds, and number of test images of every group; groups with equal accuracies count once."""
    known = set()
    for file, (columns, images) in SOURCES.items():
        if not (FOLDER / file).exists():
            continue
        for _, of_group in pd.read_csv(FOLDER / file).groupby(columns):
            accuracies = tuple(of_group.drop_duplicates("seed").sort_values("seed").test_accuracy)
            if len(accuracies) >= MIN_GROUP and accuracies not in known:
                known.add(accuracies)
                yield file, np.array(accuracies), images


def coverage(accuracies: np.ndarray, seeds: int, images: int) -> tuple[float, float, float]:
    """Shares within: other runs in the run interval, the same without its floor, means of the other seeds."""
    runs, unfloored, means = [], [], []
    for chosen in combinations(range(len(accuracies)), seeds):
        taken, others = accuracies[list(chosen)], np.delete(accuracies, chosen)
        error = taken.std(ddof=1) / np.sqrt(seeds)
        for found, number in ((runs, images), (unfloored, np.nan)):
            low, high = run_interval(taken.mean(), error, seeds, number) or (np.nan, np.nan)
            found.append(((others >= low) & (others <= high)).mean())
        allowed = stats.t.ppf(0.975, seeds - 1) * error * np.sqrt(1 + seeds / len(others))
        means.append(abs(taken.mean() - others.mean()) <= allowed)
    return float(np.mean(runs)), float(np.mean(unfloored)), float(np.mean(means))


def main() -> None:
    """Print the table."""
    found = list(groups())
    print(f"{len(found)} groups, {sum(len(accuracies) for _, accuracies, _ in found)} trainings")
    titles = ["intervals from", "groups", "run", "run, without its floor", "mean"]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    generator = np.random.default_rng(0)
    for seeds in SEEDS:
        usable = [(accuracies, images) for _, accuracies, images in found if len(accuracies) > seeds]
        shares = np.array([coverage(accuracies, seeds, images) for accuracies, images in usable])
        drawn = generator.integers(len(shares), size=(DRAWS, len(shares)))
        low, high = percentiles(shares[drawn].mean(axis=1))
        cells = [f"{mean:.3f} ({a:.3f} to {b:.3f})" for mean, a, b in zip(shares.mean(axis=0), low, high, strict=True)]
        print(f"| {seeds} seeds | {len(usable)} | {' | '.join(cells)} |")
        keep(f"run intervals from {seeds} seeds: coverage", float(shares[:, 0].mean()), 0.01)


if __name__ == "__main__":
    main()
