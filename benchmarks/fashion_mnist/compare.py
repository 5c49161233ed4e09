"""Print the tables of the methods on Fashion-MNIST, and draw the picture, from results.csv and step_times.csv.

    python benchmarks/fashion_mnist/compare.py [--picture]    seconds

Seconds are the steps of each stage multiplied by step times that were measured side by side (step_times.py). FLOPs and seconds
are shares of those of the full model with AdamW at 100 %. How to read them: the stored step times are medians of nine rounds,
whose scatter is not stored; two tables differ by 5 to 12 %. Intervals by seconds hold the seeds and the test images, and no
error of the step times.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from explorer.ledger.correct_images import CorrectImages

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from ablations.fixed_schedule import paired_interval  # noqa: E402 (a module in the folder of the benchmarks)
from curves import TEST_IMAGES, over_seeds  # noqa: E402
from methods import METHODS, OPTIMIZERS, stages_of  # noqa: E402
from side_by_side import BASELINE, CURRENCIES, accuracies, chosen, headlines, matched  # noqa: E402

OTHER_OPTIMIZER = {"muon": "Muon"}
NAMES = {name: method.name for name, method in METHODS.items()} | {
    f"{name} {key}": f"{method.name}, {shown}" for key, shown in OTHER_OPTIMIZER.items() for name, method in METHODS.items()
}
"""Of the methods, as tables and pictures show them; without an optimizer in the name it is AdamW."""
REFERENCE = "reference"
"""Name of the full model with AdamW in the pictures of other optimizers."""


def points() -> pd.DataFrame:
    """One row per method and budget, over the fresh seeds, as `curves.over_seeds`; cost and seconds are shares."""
    runs = pd.read_csv(FOLDER / "results.csv").merge(correct_images(), how="left")
    times = pd.read_csv(FOLDER / "step_times.csv").set_index(["method", "optimizer", "rates", "batch_size"]).milliseconds
    runs["seconds"] = [_seconds(run, times) for run in runs.itertuples()]
    runs["method"] += runs.optimizer.map(lambda name: f" {name}" if name in OTHER_OPTIMIZER else "")
    table = over_seeds(runs, ("method", "budget"), list(CURRENCIES), TEST_IMAGES["fashion"])
    table = table.sort_values("method", key=lambda column: column.map(list(NAMES).index), kind="stable")
    full = table[(table.method == BASELINE) & (table.budget == "100%")].seconds.iloc[0]
    return table.assign(seconds=table.seconds / full)


def correct_images() -> pd.DataFrame:
    """Which test images each training classifies correctly, where that is stored."""
    stored = pd.read_csv(FOLDER / "correct.csv")
    flags = [CorrectImages(images=row.images, packed=row.packed) for row in stored.itertuples()]
    return stored[["method", "optimizer", "budget", "seed"]].assign(test_correct=pd.Series(flags, dtype=object))


def _seconds(run: object, times: pd.Series) -> float:
    """Seconds of the steps of a training."""
    milliseconds = [steps * times[run.method, run.optimizer, rates, batch] for rates, batch, steps in stages_of(run.stages)]
    return sum(milliseconds) / 1000


def gains(runs: pd.DataFrame) -> str:
    """Whether the gains of staging and of the optimizer add up, in points at equal budgets, paired by seed.

    The last column is the gain of staging with Muon less that with AdamW: zero if they add up.

    Args:
        runs: rows of results.csv.
    """
    titles = ["method", "budget", "Muon, full model", "Muon, staged", "staging, AdamW", "staging, Muon", "difference"]
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    wide = runs.pivot(index="seed", columns=["budget", "method", "optimizer"], values="test_accuracy")
    at_equal_budgets = [name for name, each in METHODS.items() if name != BASELINE and each.currency == "flops"]
    for budget in dict.fromkeys(runs.budget):
        for method in at_equal_budgets:
            of = {(name, key): wide.get((budget, name, key)) for name in (BASELINE, method) for key in OPTIMIZERS}
            if any(column is None or column.isna().any() for column in of.values()):
                continue
            full, full_muon, staged, staged_muon = of.values()
            pairs = [(full_muon, full), (staged_muon, staged), (staged, full), (staged_muon, full_muon)]
            pairs.append((staged_muon - full_muon, staged - full))
            cells = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in paired_interval(*pair))) for pair in pairs]
            lines.append(f"| {NAMES[method]} | {budget} | {' | '.join(cells)} |")
    return "\n".join(lines)


def matches(table: pd.DataFrame, optimizer: str) -> str:
    """At which share of the cost of full training with this optimizer each method has the accuracy of that; see `points`.

    Only the titles if the full model was not trained at 100 %.
    """
    own = with_reference(table, optimizer)
    own = own[own.method != REFERENCE]
    full = own[(own.method == BASELINE) & (own.budget == "100%")]
    of = f"full training with {OTHER_OPTIMIZER[optimizer]}"
    lines = [f"| method | FLOPs to match {of} | seconds to match it ({full.seconds.sum():.2f} here) |", "| --- | --- | --- |"]
    own = own.assign(**{currency: own[currency] / full[currency].sum() for currency in CURRENCIES})
    for method in dict.fromkeys(own.method) if len(full) else ():
        cells = [matched(own, method, currency) for currency in CURRENCIES]
        lines.append(f"| {NAMES[f'{method} {optimizer}']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_reference(table: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """The rows of `points` of an optimizer, named as with AdamW, after the full model with AdamW as `REFERENCE`."""
    own = table[table.method.str.endswith(f" {optimizer}")]
    own = own.assign(method=own.method.str.removesuffix(f" {optimizer}"))
    return pd.concat([table[table.method == BASELINE].assign(method=REFERENCE), own])


def main() -> None:
    """Print the tables, and draw the picture if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help="write adamw.png and muon.png (needs kaleido and Chromium)")
    options = parser.parse_args()
    table = points()
    by_currency = [headlines(table, NAMES, currency) for currency in CURRENCIES]
    rest = *(matches(table, key) for key in OTHER_OPTIMIZER), gains(pd.read_csv(FOLDER / "results.csv")), chosen(table, NAMES)
    for text in (accuracies(table, NAMES), *by_currency, *rest):
        print(f"{text}\n")
    if options.picture:
        from picture import draw

        draw(table[table.method.isin(METHODS)], NAMES, FOLDER / "adamw.png")
        for key in OTHER_OPTIMIZER:
            names = {REFERENCE: f"{NAMES[BASELINE]}, AdamW"} | {name: NAMES[f"{name} {key}"] for name in METHODS}
            draw(with_reference(table, key), names, FOLDER / f"{key}.png")


if __name__ == "__main__":
    main()
