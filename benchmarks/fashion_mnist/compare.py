"""Print the tables of the methods on Fashion-MNIST, and draw their pictures, from results.csv and step_times.csv.

    python benchmarks/fashion_mnist/compare.py [--picture]    seconds

Seconds are the steps of each stage multiplied by step times that were measured side by side (step_times.py), as shares of those
of the full model with the same optimizer at 100 %. How to read them: the stored step times were measured on one of two CPU
cores next to other work (2026-11-27), medians of nine rounds, whose scatter is not stored; two tables differ by 5 to 12 %.
Intervals by seconds hold the seeds and the test images, and no error of the step times.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from explorer.ledger.correct_images import CorrectImages

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from curves import TEST_IMAGES, over_seeds  # noqa: E402 (a module in the folder of the benchmarks)
from methods import METHODS, OPTIMIZERS, stages_of  # noqa: E402
from side_by_side import BASELINE, accuracies, chosen, headlines, match, share  # noqa: E402

NAMES = {name: method.name for name, method in METHODS.items()}
SHOWN = {"adamw": "AdamW", "muon": "Muon"}


def points(optimizer: str) -> pd.DataFrame:
    """One row per method and budget of an optimizer, over the fresh seeds, as `curves.over_seeds`; cost and seconds are shares.

    Without step_times.csv there is no column of seconds.
    """
    runs = pd.read_csv(FOLDER / "results.csv")
    runs = runs[runs.optimizer == optimizer].merge(correct_images(), how="left")
    costs = ["cost"]
    path = FOLDER / "step_times.csv"
    if path.exists():
        times = pd.read_csv(path).set_index(["method", "optimizer", "rates", "batch_size"]).milliseconds
        runs = runs.assign(seconds=[_seconds(run, times) for run in runs.itertuples()])
        costs.append("seconds")
    table = over_seeds(runs, ("method", "budget"), costs, TEST_IMAGES["fashion"])
    if "seconds" in costs:
        full = table[(table.method == BASELINE) & (table.budget == "100%")].seconds.iloc[0]
        table = table.assign(seconds=table.seconds / full)
    return table


def correct_images() -> pd.DataFrame:
    """Which test images each training classifies correctly, where that is stored."""
    stored = pd.read_csv(FOLDER / "correct.csv")
    flags = [CorrectImages(images=row.images, packed=row.packed) for row in stored.itertuples()]
    return stored[["method", "optimizer", "budget", "seed"]].assign(test_correct=pd.Series(flags, dtype=object))


def _seconds(run: object, times: pd.Series) -> float:
    """Seconds of the steps of a training."""
    milliseconds = [steps * times[run.method, run.optimizer, rates, batch] for rates, batch, steps in stages_of(run.stages)]
    return sum(milliseconds) / 1000


def together(tables: dict[str, pd.DataFrame]) -> str:
    """Whether the gains of staging and of the optimizer add up: cost to match the full model with AdamW at 100 %."""
    table = pd.concat([each.assign(method=each.method + f", {name}") for name, each in tables.items()])
    table = table.assign(method=table.method.where(table.method != f"{BASELINE}, adamw", BASELINE))
    lines = ["| method | optimizer | share of FLOPs to match the full model with AdamW |", "| --- | --- | --- |"]
    for name in tables:
        for method in ("full", "sweep"):
            key = BASELINE if (method, name) == (BASELINE, "adamw") else f"{method}, {name}"
            if (table.method == key).any():
                found = match(table, key, "cost")
                interval = f"{share(found.low)} to {share(found.high)}"
                lines.append(f"| {NAMES[method]} | {SHOWN[name]} | {share(found.cost)} ({interval}) |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and draw the pictures if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help="write adamw.png and muon.png (needs kaleido and Chromium)")
    options = parser.parse_args()
    runs = pd.read_csv(FOLDER / "results.csv")
    trained = set(runs[(runs.method == BASELINE) & (runs.budget == "100%")].optimizer)
    tables = {name: points(name) for name in OPTIMIZERS if name in trained}
    for name, table in tables.items():
        currencies = [currency for currency in ("cost", "seconds") if currency in table]
        print(f"{SHOWN[name]}\n")
        for text in (accuracies(table, NAMES), *(headlines(table, NAMES, each) for each in currencies), chosen(table, NAMES)):
            print(f"{text}\n")
        if options.picture:
            from picture import draw

            draw(table, NAMES, FOLDER / f"{name}.png")
    print(together(tables))


if __name__ == "__main__":
    main()
