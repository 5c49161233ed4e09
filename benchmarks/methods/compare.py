"""Print the tables and draw the picture of the methods from the stored results.csv and step_times.csv, without training.

    python benchmarks/methods/compare.py [--picture]    seconds

There are two currencies: counted FLOPs, and seconds, which are the steps of each stage multiplied by step times that were
measured side by side. Both are given as shares of the baseline at 100 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from curves import TEST_IMAGES, over_seeds  # noqa: E402 (a module in the parent folder of a script)
from figures import keep  # noqa: E402
from side_by_side import CURRENCIES, accuracies, chosen, headlines, match  # noqa: E402

NAMES = {
    "full": "baseline",
    "width": "width (heads, MLP)",
    "tokens": "token dropping",
    "resize": "smaller input first",
    "depth": "depth growth",
    "all": "heads, MLP, tokens",
    "sweep": "sweep over all axes",
    "copies": "the same, growth by copies",
}


def points() -> pd.DataFrame:
    """One row per method and budget, over the fresh seeds.

    Columns: method, budget, cost, seconds (both as shares of the baseline's at 100 %), test_mean, test_error, seeds, test_low,
    test_high (95 % interval, Student's t), learning_rate, batch_size, schedule.
    """
    table = in_seconds()
    full = table[(table.method == "full") & (table.budget == "100%")].iloc[0]
    return table.assign(seconds=table.seconds / full.seconds)


def in_seconds() -> pd.DataFrame:
    """As `points`, with seconds as they are."""
    runs, times = pd.read_csv(FOLDER / "results.csv"), step_times()

    def seconds(run: pd.Series) -> float:
        total = 0.0
        for part in run.stages.split("; "):
            rates, steps = part.split(" x")
            policy = "resize" if float(rates.split()[2]) < 1 and run.method == "resize" else "drop"
            total += int(steps) * times[policy, rates, run.batch_size] / 1000
        return total

    runs["seconds"] = runs.apply(seconds, axis=1)
    return over_seeds(runs, ("method", "budget"), ("cost", "seconds"), TEST_IMAGES["fractals"])


def step_times() -> pd.Series:
    """Milliseconds by token policy, rates and batch size."""
    return pd.read_csv(FOLDER / "step_times.csv").set_index(["policy", "rates", "batch_size"]).milliseconds


def main() -> None:
    """Print the tables, and draw the picture if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help="write methods.png (needs kaleido and Chrome or Chromium)")
    options = parser.parse_args()
    table = points()
    by_currency = [headlines(table, NAMES, currency) for currency in CURRENCIES]
    for text in (accuracies(table, NAMES), *by_currency, chosen(table, NAMES)):
        print(f"{text}\n")
    for currency in CURRENCIES:
        for method in dict.fromkeys(table.method):
            keep(f"{NAMES[method]}: share of {CURRENCIES[currency]} to match", match(table, method, currency).cost, 0.01)
    if options.picture:
        from picture import draw

        draw(table, NAMES, FOLDER / "methods.png")


if __name__ == "__main__":
    main()
