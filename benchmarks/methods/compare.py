"""Print the tables and draw the picture of the methods from the stored results.csv and step_times.csv, without training.

    python benchmarks/methods/compare.py [--picture]    seconds

There are two currencies: counted FLOPs, and seconds, which are the steps of each stage multiplied by step times that were
measured side by side. Both are given as shares of the baseline at 100 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from explorer.frontier import MetricCurve
from explorer.frontier.curve import Match

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from curves import hypervolume_of, over_seeds  # noqa: E402 (a module in the parent folder of a script)
from figures import keep  # noqa: E402 (a module in the parent folder of a script)

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
CURRENCIES = {"cost": "counted FLOPs", "seconds": "seconds"}


def points() -> pd.DataFrame:
    """One row per method and budget, over the fresh seeds.

    Columns: method, budget, cost, seconds (both as shares of the baseline's at 100 %), test_mean, test_error, seeds, test_low,
    test_high (95 % interval, Student's t), learning_rate, batch_size, schedule.
    """
    runs = pd.read_csv(FOLDER / "results.csv")
    times = pd.read_csv(FOLDER / "step_times.csv").set_index(["policy", "rates", "batch_size"]).milliseconds

    def seconds(run: pd.Series) -> float:
        total = 0.0
        for part in run.stages.split("; "):
            rates, steps = part.split(" x")
            policy = "resize" if float(rates.split()[2]) < 1 and run.method == "resize" else "drop"
            total += int(steps) * times[policy, rates, run.batch_size] / 1000
        return total

    runs["seconds"] = runs.apply(seconds, axis=1)
    table = over_seeds(runs, ("method", "budget"), ("cost", "seconds"))
    full = table[(table.method == "full") & (table.budget == "100%")].iloc[0]
    return table.assign(seconds=table.seconds / full.seconds)


def curve(table: pd.DataFrame, method: str, currency: str) -> MetricCurve:
    """Accuracy of a method as a function of a currency."""
    rows = table[table.method == method]
    return MetricCurve.through(rows.assign(cost=rows[currency]))


def match(table: pd.DataFrame, method: str, currency: str) -> Match:
    """The share of the baseline's cost at 100 % at which a method reaches the baseline's accuracy there."""
    full = table[(table.method == "full") & (table.budget == "100%")].iloc[0]
    return curve(table, method, currency).cost_to_match(full.test_mean, full.test_error, full.seeds)


def volume(table: pd.DataFrame, method: str, currency: str) -> tuple[float, float, float]:
    """Hypervolume of a method's means, up to the baseline's cost at 100 %, and its 95 % interval."""
    return hypervolume_of(table[table.method == method], currency)


def share(value: float) -> str:
    """Format a share of full training; infinite means not reached within the measured costs."""
    return f"{value:.2f}" if np.isfinite(value) else "not reached"


def accuracies(table: pd.DataFrame) -> str:
    """Test accuracy in % by method and budget."""
    budgets = list(dict.fromkeys(table.budget))
    lines = [f"| method | {' | '.join(budgets)} |", "| --- |" + " --- |" * len(budgets)]
    for method in dict.fromkeys(table.method):
        cells = []
        for budget in budgets:
            rows = table[(table.method == method) & (table.budget == budget)]
            cells += [f"{100 * r.test_mean:.1f} ({100 * r.test_low:.1f} to {100 * r.test_high:.1f})" for r in rows.itertuples()]
            cells += ["" for _ in range(1 - len(rows))]
        lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headlines(table: pd.DataFrame, currency: str) -> str:
    """Cost to match, accuracy at 25 % and 10 %, hypervolume."""
    lines = [
        f"| method, by {CURRENCIES[currency]} | to match the baseline | accuracy at 25% | at 10% | hypervolume |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(table.method):
        found, between = match(table, method, currency), curve(table, method, currency)
        cells = [f"{share(found.cost)} ({share(found.low)} to {share(found.high)})"]
        for cost in (0.25, 0.1):
            if not between.costs[0] <= cost <= between.costs[-1]:
                cells.append("not measured")
                continue
            expected = between.at([cost])
            cells.append(f"{100 * expected.mean[0]:.1f} ({100 * expected.low[0]:.1f} to {100 * expected.high[0]:.1f})")
        cells.append("{:.3f} ({:.3f} to {:.3f})".format(*volume(table, method, currency)))
        lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def chosen(table: pd.DataFrame) -> str:
    """The schedule and settings that each method's search selected."""
    lines = ["| method | budget | schedule | learning rate | batch | time |", "| --- | --- | --- | --- | --- | --- |"]
    for row in table.itertuples():
        settings = f"{row.learning_rate:g} | {row.batch_size} | {row.seconds:.2f}"
        lines.append(f"| {NAMES[row.method]} | {row.budget} | {row.schedule} | {settings} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, and draw the picture if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help="write methods.png (needs kaleido and Chrome or Chromium)")
    options = parser.parse_args()
    table = points()
    for text in (accuracies(table), *(headlines(table, currency) for currency in CURRENCIES), chosen(table)):
        print(f"{text}\n")
    for currency in CURRENCIES:
        for method in dict.fromkeys(table.method):
            keep(f"{NAMES[method]}: share of {CURRENCIES[currency]} to match", match(table, method, currency).cost, 0.01)
    if options.picture:
        from picture import draw

        draw(table, NAMES, FOLDER / "methods.png")


if __name__ == "__main__":
    main()
