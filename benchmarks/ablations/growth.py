"""Ablation of growth initialization, as in Table 11 of "Budgeted Training for Vision Transformer", ICLR 2023.

    python benchmarks/ablations/growth.py [--task digits] [--only depth ...]    resumes when interrupted
    python benchmarks/ablations/growth.py [--task digits] --table               prints the tables from the stored results

The learning rate of each growth initialization is the best of several by validation accuracy on seeds of their own. Test
accuracies are then compared on ten other seeds, paired by seed. Rows with moments exist in this experiment only: copies take
over the optimizer state of their sources, as in the paper's weaker rows.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from fixed_schedule import FIRST_SEED, FOLDER, LEVELS, SHARES, SPACES, Variant, lr_schedule, paired_interval, staged, trained
from torch import Tensor

from explorer import Rates, Schedule, Stage
from explorer.elastic.pattern import Indices

GROWTHS = ("initial", "zero", "copy", "copy_normalized", "copy, with moments", "copy_normalized, with moments")
"""Growth initializations; the first is what the others are compared with. The paper's Table 11 has, in this order: 75.8 for the
first, none for the second, then 79.4, 79.3, 76.5 and 78.5."""
WITH_MOMENTS = ", with moments"
SEEDS = range(FIRST_SEED, FIRST_SEED + 10)
TUNING_SEEDS = {"digits": (90, 91), "fractals": (90,), "fashion": (90,)}
LEARNING_RATES = {"digits": (2e-3, 4e-3, 8e-3), "fractals": (1e-3, 2e-3, 4e-3), "fashion": (1e-3, 2e-3, 4e-3)}
DEPTH = Schedule(stages=(Stage(rates=Rates(depth=0.5), duration_ratio=0.6), Stage(rates=Rates(), duration_ratio=0.4)), grid=20)
CONDITIONS = {
    "stages .5 .75 1": Variant("growth", staged(LEVELS, SHARES)),
    "stages .25 .5 1": Variant("growth", staged((0.25, 0.5, 1.0), (0.35, 0.35, 0.3))),
    "stages .5 .75 1, wsd": Variant("growth", staged(LEVELS, SHARES), recipe=lr_schedule("wsd")),
    "depth .5 1": Variant("growth", DEPTH),
    "short first stage": Variant("growth", staged((0.25, 1.0), (0.1, 0.9))),
    "long first stage": Variant("growth", staged((0.25, 1.0), (0.7, 0.3))),
}
"""Fixed schedules in which growth differs: how much is grown, how long was trained before, and at what learning rate."""
COLUMNS = ["condition", "growth", "learning_rate", "seed", "validation_accuracy", "test_accuracy"]


def take_over_state(state: Tensor, start: Tensor | float, source: Indices, new: Indices) -> None:  # noqa: ARG001 (its signature)
    """Let copies take over the optimizer state of their sources, in place of `explorer.elastic.growth.reset_copies`."""
    for dim, (copied_from, own) in enumerate(zip(source, new, strict=True)):
        if copied_from is not None and own is not None:
            state.copy_(state.index_select(dim, torch.searchsorted(own, copied_from)))


def run(condition: str, growth: str, learning_rate: float, task: str, seed: int) -> tuple[float, float]:
    """Validation and test accuracy of one training run."""
    variant = CONDITIONS[condition]
    variant = replace(
        variant,
        staging={"growth": growth.removesuffix(WITH_MOMENTS)},
        recipe={**variant.recipe, "learning_rate": learning_rate},
    )
    with_moments = patch("explorer.elastic.resizable.reset_copies", take_over_state)
    with with_moments if growth.endswith(WITH_MOMENTS) else nullcontext():
        result = trained(variant, task, seed)
    return result.validation_accuracy, result.test_accuracy


def best_learning_rates(results: pd.DataFrame) -> dict[str, float]:
    """For each growth initialization of a condition, the learning rate with the best mean validation accuracy in tuning."""
    tuning = results[results.seed < FIRST_SEED]
    means = tuning.groupby(["growth", "learning_rate"]).validation_accuracy.mean()
    return {growth: means[growth].idxmax() for growth in means.index.unique("growth")}


def missing(condition: str, growths: Sequence[str], task: str, kept: Path) -> Iterator[tuple[str, float, int]]:
    """Growth, learning rate and seed of the runs of a condition that are not stored yet, in order."""
    tuning = [(growth, rate, seed) for seed in TUNING_SEEDS[task] for growth in growths for rate in LEARNING_RATES[task]]
    yield from (each for each in tuning if each not in _stored(kept, condition))
    best = best_learning_rates(_of_condition(kept, condition))
    compared = [(growth, best[growth], seed) for seed in SEEDS for growth in growths]
    yield from (each for each in compared if each not in _stored(kept, condition))


def _of_condition(kept: Path, condition: str) -> pd.DataFrame:
    results = pd.read_csv(kept)
    return results[results.condition == condition]


def _stored(kept: Path, condition: str) -> set[tuple[str, float, int]]:
    rows = _of_condition(kept, condition)
    return set(rows[["growth", "learning_rate", "seed"]].itertuples(index=False, name=None))


def table(task: str) -> str:
    """Markdown tables of the stored results: test accuracy of each growth initialization, and differences from the first."""
    kept = FOLDER / f"growth_{task}.csv"
    if not kept.exists():
        return ""
    lines = []
    results = pd.read_csv(kept)
    for condition in (each for each in CONDITIONS if (results.condition == each).any()):
        of_condition = results[results.condition == condition]
        best = best_learning_rates(of_condition)
        chosen = of_condition[of_condition.seed.isin(SEEDS) & (of_condition.learning_rate == of_condition.growth.map(best))]
        wide = chosen.pivot(index="seed", columns="growth", values="test_accuracy")
        lines += [f"\n| growth, {condition} | learning rate | seeds | test accuracy | difference | 95 % interval | |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        for growth in (each for each in GROWTHS if each in wide):
            both = wide[list(dict.fromkeys([growth, GROWTHS[0]]))].dropna()
            shown = "| |"
            if growth != GROWTHS[0] and len(both) > 1:
                mean, low, high = paired_interval(both[growth], both[GROWTHS[0]])
                verdict = "too close to call" if low <= 0 <= high else "better" if low > 0 else "worse"
                shown = f"{100 * mean:+.1f} | {100 * low:+.1f} to {100 * high:+.1f} | {verdict}"
            lines += [f"| {growth} | {best[growth]:g} | {len(both)} | {100 * both[growth].mean():.1f} | {shown} |"]
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(SPACES), default="fractals")
    parser.add_argument("--only", nargs="*", choices=list(CONDITIONS), default=list(CONDITIONS)[:1])
    parser.add_argument("--growths", nargs="*", choices=GROWTHS, default=GROWTHS)
    parser.add_argument("--runs", type=int, help="stop after this many runs")
    parser.add_argument("--table", action="store_true", help="print the tables without training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = FOLDER / f"growth_{options.task}.csv"
    if not kept.exists() and not options.table:
        kept.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    runs = 0
    for condition in [] if options.table else options.only:
        for growth, learning_rate, seed in missing(condition, options.growths, options.task, kept):
            if options.runs is not None and runs == options.runs:
                return
            accuracies = run(condition, growth, learning_rate, options.task, seed)
            with kept.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([condition, growth, learning_rate, seed, *(round(value, 6) for value in accuracies)])
            runs += 1
    print(table(options.task))


if __name__ == "__main__":
    main()
