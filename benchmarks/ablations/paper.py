"""Tables 11 (growth), 4 (durations) and 13 (axes) of "Budgeted Training for Vision Transformer", ICLR 2023, on small tasks.

    python benchmarks/ablations/paper.py [--task digits] [--only durations ...]    resumes when interrupted
    python benchmarks/ablations/paper.py [--task digits] --table                   prints the tables from the stored results

The learning rate of each variant is the best of several by validation accuracy on seeds of their own. Test accuracies are then
compared on ten other seeds, paired by seed, with the first variant of each table. Growth with moments exists in this experiment
only: copies take over the optimizer state of their sources, as in the paper's weaker rows.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from fixed_schedule import (
    FIRST_SEED,
    FOLDER,
    LEVELS,
    SHARES,
    SPACES,
    Variant,
    difference_cells,
    lr_schedule,
    paired_interval,
    staged,
    trained,
)
from torch import Tensor

from explorer import Rates, Schedule, Stage
from explorer.elastic.pattern import Indices
from explorer.spec.rates import Axis

GROWTHS = ("initial", "zero", "copy", "copy_normalized", "copy, with moments", "copy_normalized, with moments")
"""Growth initializations; the first is what the others are compared with. The paper's Table 11 has, in this order: 75.8 for the
first, none for the second, then 79.4, 79.3, 76.5 and 78.5."""
WITH_MOMENTS = ", with moments"
ALPHAS = (2, 5, 0, -2, -5)
"""The values of the paper's Table 4: 74.5, 74.4, 74.2, 73.8, 73.6."""
POSITIONS = (0.25, 0.5, 0.75)
"""The means of three uniform draws in [0, 1], in order: the paper draws s, and stage k lasts exp(alpha s) epochs."""
REDUCED: tuple[tuple[Axis, ...], ...] = (
    ("heads", "mlp", "tokens"),
    ("heads", "tokens"),
    ("heads", "mlp"),
    ("mlp", "tokens"),
    ("heads",),
    ("tokens",),
    ("mlp",),
)
"""Axes that are reduced, as in the paper's Table 13: 79.5, 79.9, 80.0, 80.0, 80.2, 80.1, 80.2 after 50, 100 and 150 epochs, at
costs that differ. Here the epochs have these proportions and the costs are equal."""
NORMALIZED = {"growth": "copy_normalized"}
SEEDS = range(FIRST_SEED, FIRST_SEED + 10)
TUNING_SEEDS = {"digits": (90, 91), "fractals": (90,), "fashion": (90,)}
LEARNING_RATES = {"digits": (2e-3, 4e-3, 8e-3), "fractals": (1e-3, 2e-3, 4e-3), "fashion": (1e-3, 2e-3, 4e-3)}
COLUMNS = ["table", "variant", "learning_rate", "seed", "validation_accuracy", "test_accuracy"]


def in_epochs(epochs: Sequence[float], axes: Sequence[Axis]) -> Schedule:
    """A schedule with the fixed rates on some axes, whose stages have these proportions in epochs and spend the budget."""
    unit = 0.01 / max(epochs)  # far below the budget; stages are lengthened to spend it
    rates = [Rates(**dict.fromkeys(axes, level)) for level in LEVELS]
    return Schedule(stages=tuple(Stage(rates=r, epochs=unit * e) for r, e in zip(rates, epochs, strict=True)))


def growths(schedule: Schedule, **recipe: object) -> dict[str, Variant]:
    """A fixed schedule with each growth initialization."""
    return {
        growth: Variant("growth", schedule, staging={"growth": growth.removesuffix(WITH_MOMENTS)}, recipe=recipe)
        for growth in GROWTHS
    }


DEPTH = Schedule(stages=(Stage(rates=Rates(depth=0.5), duration_ratio=0.6), Stage(rates=Rates(), duration_ratio=0.4)), grid=20)
TABLES: Mapping[str, Mapping[str, Variant]] = {
    "growth, stages .5 .75 1": growths(staged(LEVELS, SHARES)),
    "growth, stages .25 .5 1": growths(staged((0.25, 0.5, 1.0), (0.35, 0.35, 0.3))),
    "growth, stages .5 .75 1, wsd": growths(staged(LEVELS, SHARES), **lr_schedule("wsd")),
    "growth, depth .5 1": growths(DEPTH),
    "growth, short first stage": growths(staged((0.25, 1.0), (0.1, 0.9))),
    "growth, long first stage": growths(staged((0.25, 1.0), (0.7, 0.3))),
    "durations": {
        f"alpha {alpha}": Variant(
            "durations", in_epochs([math.exp(alpha * position) for position in POSITIONS], REDUCED[0]), staging=NORMALIZED
        )
        for alpha in ALPHAS
    },
    "axes": {" + ".join(axes): Variant("axes", in_epochs((1, 2, 3), axes), staging=NORMALIZED) for axes in REDUCED},
}
"""For each table, its variants. In those of growth, the schedules differ in how much is grown, how long was trained before, and
at what learning rate."""


DEFAULT_TABLES = ("growth, stages .5 .75 1", "durations", "axes")


def take_over_state(state: Tensor, start: Tensor | float, source: Indices, new: Indices) -> None:  # noqa: ARG001 (its signature)
    """Let copies take over the optimizer state of their sources, in place of `explorer.elastic.growth.reset_copies`."""
    for dim, (copied_from, own) in enumerate(zip(source, new, strict=True)):
        if copied_from is not None and own is not None:
            state.copy_(state.index_select(dim, torch.searchsorted(own, copied_from)))


def run(table: str, name: str, learning_rate: float, task: str, seed: int) -> tuple[float, float]:
    """Validation and test accuracy of one training run."""
    variant = TABLES[table][name]
    variant = replace(variant, recipe={**variant.recipe, "learning_rate": learning_rate})
    with_moments = patch("explorer.elastic.resizable.reset_copies", take_over_state)
    with with_moments if name.endswith(WITH_MOMENTS) else nullcontext():
        result = trained(variant, task, seed)
    return result.validation, result.test


def best_learning_rates(results: pd.DataFrame) -> dict[str, float]:
    """For each variant of a table, the learning rate with the best mean validation accuracy in tuning."""
    tuning = results[results.seed < FIRST_SEED]
    means = tuning.groupby(["variant", "learning_rate"]).validation_accuracy.mean()
    return {variant: means[variant].idxmax() for variant in means.index.unique("variant")}


def missing(table: str, names: Sequence[str], task: str, kept: Path) -> Iterator[tuple[str, float, int]]:
    """Variant, learning rate and seed of the runs of a table that are not stored yet, in order."""
    tuning = [(name, rate, seed) for seed in TUNING_SEEDS[task] for name in names for rate in LEARNING_RATES[task]]
    yield from (each for each in tuning if each not in _stored(kept, table))
    best = best_learning_rates(_of_table(kept, table))
    compared = [(name, best[name], seed) for seed in SEEDS for name in names]
    yield from (each for each in compared if each not in _stored(kept, table))


def _of_table(kept: Path, table: str) -> pd.DataFrame:
    results = pd.read_csv(kept)
    return results[results.table == table]


def _stored(kept: Path, table: str) -> set[tuple[str, float, int]]:
    rows = _of_table(kept, table)
    return set(rows[["variant", "learning_rate", "seed"]].itertuples(index=False, name=None))


def markdown(task: str) -> str:
    """Tables of the stored results: test accuracy of each variant, and differences from the first."""
    kept = FOLDER / f"paper_{task}.csv"
    if not kept.exists():
        return ""
    lines = []
    results = pd.read_csv(kept)
    for table in (each for each in TABLES if (results.table == each).any()):
        of_table = results[results.table == table]
        best = best_learning_rates(of_table)
        chosen = of_table[of_table.seed.isin(SEEDS) & (of_table.learning_rate == of_table.variant.map(best))]
        wide = chosen.pivot(index="seed", columns="variant", values="test_accuracy")
        reference, *others = TABLES[table]
        if reference not in wide:
            continue
        lines += [f"\n| {table} | learning rate | seeds | test accuracy | difference | 95 % interval | |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        for name in (each for each in (reference, *others) if each in wide):
            both = wide[[name, reference]].dropna() if name != reference else wide[[name]].dropna()
            shown = "| |"
            if name != reference and len(both) > 1:
                shown = difference_cells(*paired_interval(both[name], both[reference]))
            lines += [f"| {name} | {best[name]:g} | {len(both)} | {100 * both[name].mean():.1f} | {shown} |"]
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(SPACES), default="fractals")
    parser.add_argument("--only", nargs="*", choices=list(TABLES), default=DEFAULT_TABLES)
    parser.add_argument("--variants", nargs="*", help="only these of the chosen tables")
    parser.add_argument("--table", action="store_true", help="print the tables without training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = FOLDER / f"paper_{options.task}.csv"
    if not kept.exists() and not options.table:
        kept.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for table in [] if options.table else options.only:
        names = [name for name in TABLES[table] if options.variants is None or name in options.variants]
        for name, learning_rate, seed in missing(table, names, options.task, kept):
            accuracies = run(table, name, learning_rate, options.task, seed)
            with kept.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([table, name, learning_rate, seed, *(round(value, 6) for value in accuracies)])
    print(markdown(options.task))


if __name__ == "__main__":
    main()
