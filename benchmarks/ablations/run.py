"""Ablations of the project's own choices: one fixed schedule, one choice changed at a time, differences paired by seed.

    python benchmarks/ablations/run.py [--task digits] [--seeds 10] [--only cosine ...]    resumes when interrupted
    python benchmarks/ablations/run.py [--task digits] --table    print the tables from the stored results, in a second

Ten seeds take 45 minutes on one idle core on fractals, ten on digits. fixed_schedule.py says what the tasks are. Learning rate
and batch size are those of the search space. The last tables are those of paper.py, which trains their
runs.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import paper
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
    verdict,
)

from explorer import Schedule
from explorer.plan import Plan

REFERENCE = "reference"
PEAKS = (1e-3, 4e-3)
"""Learning rates at which linear and wsd are compared, in addition to 2e-3 of both search spaces."""


def in_epochs(compiled: Plan) -> Plan:
    """The plan with a learning rate that depends on the number of images instead of the budget spent."""
    done, segments = 0, []
    for segment in compiled.segments:
        after = done + segment.steps
        segments.append(replace(segment, start_time=done / compiled.steps, end_time=after / compiled.steps))
        done = after
    return replace(compiled, segments=tuple(segments))


VARIANTS = {
    REFERENCE: Variant("three stages, grid 20, leading, initial, linear, budget time"),
    "grid 5": Variant("grid", staged(LEVELS, SHARES, 5)),
    "grid 50": Variant("grid", staged(LEVELS, SHARES, 50)),
    "two stages": Variant("stages", staged((0.5, 1.0), (0.72, 0.28))),
    "four stages": Variant("stages", staged((0.25, 0.5, 0.75, 1.0), (0.24, 0.24, 0.24, 0.28))),
    "three stages from .25": Variant("stages", staged((0.25, 0.5, 1.0), (0.36, 0.36, 0.28))),
    "random subset": Variant("subset", staging={"subset": "random"}),
    "important subset": Variant("subset", staging={"subset": "importance", "growth": "initial"}),
    "zero-init growth": Variant("growth", staging={"growth": "zero"}),
    "cosine": Variant("learning-rate schedule", recipe=lr_schedule("cosine")),
    "wsd": Variant("learning-rate schedule", recipe=lr_schedule("wsd")),
    **{
        f"{kind} at {peak:g}": Variant("learning-rate schedule", recipe=lr_schedule(kind, peak))
        for kind in ("linear", "wsd")
        for peak in PEAKS
    },
    "rate in epochs": Variant("learning rate over", change=in_epochs),
    "baseline": Variant("staging", Schedule.full_model(20)),
    "baseline, batch 8": Variant("staging", Schedule.full_model(20), recipe={"batch_size": 8}),
    "baseline, wsd": Variant("learning-rate schedule", Schedule.full_model(20), recipe=lr_schedule("wsd")),
    "timm's initialization": Variant("initialization", options={"weight_init": ""}),
    "baseline, timm's initialization": Variant("initialization", Schedule.full_model(20), options={"weight_init": ""}),
    "one block, never grown": Variant("staging", Schedule.full_model(20), options={"depth": 1}),
}


def differences(results: pd.DataFrame) -> pd.DataFrame:
    """Compare each variant with the reference, paired by seed.

    Columns: variant, asks, seeds, test (mean accuracy), difference, low, high (95 % interval, Student's t), verdict.
    """
    wide = results.pivot(index="seed", columns="variant", values="test_accuracy")
    rows = []
    for name in (each for each in VARIANTS if each in wide):
        both = wide[[name, REFERENCE]].dropna() if name != REFERENCE else wide[[name]].dropna()
        row = {"variant": name, "asks": VARIANTS[name].asks, "seeds": len(both), "test": both[name].mean()}
        if name != REFERENCE and len(both) > 1:
            mean, low, high = paired_interval(both[name], both[REFERENCE])
            row |= {"difference": mean, "low": low, "high": high, "verdict": verdict(low, high)}
        rows.append(row)
    return pd.DataFrame(rows)


def tuned_lr_schedules(results: pd.DataFrame) -> str:
    """Compare wsd with linear, each at its best of three learning rates, paired by the seeds that all variants have."""
    wide = results.pivot(index="seed", columns="variant", values="test_accuracy")
    names = {kind: [f"{kind} at {peak:g}" for peak in PEAKS] for kind in ("linear", "wsd")}
    names["linear"].append(REFERENCE)
    names["wsd"].append("wsd")
    if not {*names["linear"], *names["wsd"]} <= set(wide):
        return ""
    wide = wide[[*names["linear"], *names["wsd"]]].dropna()
    linear, wsd = (wide[tried].mean().idxmax() for tried in names.values())
    mean, low, high = (100 * value for value in paired_interval(wide[wsd], wide[linear]))
    return f"{wsd} - {linear}: {mean:+.1f} ({low:+.1f} to {high:+.1f}), {len(wide)} seeds"


def main() -> None:
    """Train the missing variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=list(SPACES), default="fractals")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--table", action="store_true", help="print the table without training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = FOLDER / f"{options.task}.csv"
    if not kept.exists():
        kept.write_text("variant,seed,test_accuracy\n", encoding="utf-8")
    known = set(pd.read_csv(kept)[["variant", "seed"]].itertuples(index=False, name=None))
    for seed in range(FIRST_SEED, FIRST_SEED + (0 if options.table else options.seeds)):
        for name in (each for each in options.only if (each, seed) not in known):
            row = name, seed, round(trained(VARIANTS[name], options.task, seed).test, 6)
            with kept.open("a", newline="", encoding="utf-8") as file:  # for several processes
                csv.writer(file, lineterminator="\n").writerow(row)
    results = pd.read_csv(kept)
    print("| variant | seeds | test accuracy | difference | 95 % interval | |\n| --- | --- | --- | --- | --- | --- |")
    for row in differences(results).replace({np.nan: None}).itertuples():
        shown = "| |"
        if row.low is not None:  # two seeds at least
            shown = difference_cells(row.difference, row.low, row.high)
        print(f"| {row.variant} | {row.seeds} | {100 * row.test:.1f} | {shown} |")
    print(tuned_lr_schedules(results))
    print(paper.markdown(options.task))


if __name__ == "__main__":
    main()
