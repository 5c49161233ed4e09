"""Measure the step time of every stage in results.csv, side by side.

    python benchmarks/fashion_mnist/step_times.py [--missing]    some minutes on one core; writes step_times.csv

The stages of all methods and optimizers are measured in turn in each round, and the median over the rounds is stored. Methods
that do the same step have the same time. With `--missing`, only stages that step_times.csv lacks are measured, beside some that
it has; their times are stored in the units of the others, by the median ratio to these.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import torch

from explorer import Rates
from explorer.spec.rates import AXES
from explorer.training.task import Task

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
from methods import muon_in_float32, space_of, stages_of  # noqa: E402 (a module in the folder of the script)
from stage_times import milliseconds  # noqa: E402

ROUNDS = 9
COLUMNS = ["method", "optimizer", "rates", "batch_size"]
REFERENCES = 12
"""Stages with a stored time that are measured beside the missing ones."""
Stage = tuple[str, str, str, int]
"""`COLUMNS` of a stage, with `rates` as in results.csv: heads, MLP, tokens, depth."""


def used(results: pd.DataFrame) -> list[Stage]:
    """Every stage that was trained."""
    runs = results.itertuples()
    return sorted({(run.method, run.optimizer, rates, batch) for run in runs for rates, batch, _ in stages_of(run.stages)})


def measured(wanted: Iterable[Stage]) -> dict[Stage, float]:
    """Milliseconds of a step of each of these stages."""
    stages, same = {}, {}
    for stage in wanted:
        method, optimizer, rates, batch = stage
        spec = space_of(method, optimizer).task.with_settings(1e-3, batch, {})
        same[stage] = step = (spec.model_dump_json(), rates)
        stages[step] = Task(spec), Rates(**dict(zip(AXES, map(float, rates.split()), strict=True)))
    times = milliseconds(stages, ROUNDS)
    return {stage: times[step] for stage, step in same.items()}


def with_missing(wanted: Iterable[Stage], stored: Mapping[Stage, float]) -> dict[Stage, float]:
    """The stored milliseconds of these stages; those of the others are measured beside some that are stored, in their units."""
    wanted = list(wanted)
    times = {stage: stored[stage] for stage in wanted if stage in stored}
    references = list(times)[:: max(1, len(times) // REFERENCES)]
    found = measured([*references, *(stage for stage in wanted if stage not in times)])
    ratios = [times[stage] / found[stage] for stage in references]
    scale = statistics.median(ratios)
    print(f"times now to those stored: {1 / scale:.2f} ({1 / max(ratios):.2f} to {1 / min(ratios):.2f})")
    return times | {stage: found[stage] * scale for stage in wanted if stage not in times}


def main() -> None:
    """Measure the step times and write the file."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--missing", action="store_true", help="measure what step_times.csv lacks")
    missing_only: bool = arguments.parse_args().missing
    torch.set_num_threads(1)
    muon_in_float32()
    wanted = used(pd.read_csv(FOLDER / "results.csv"))
    if missing_only:
        stored = pd.read_csv(FOLDER / "step_times.csv").set_index(COLUMNS).milliseconds
        times = with_missing(wanted, stored.to_dict())
    else:
        times = measured(wanted)
    rows = [(*stage, round(times[stage], 3)) for stage in wanted]
    pd.DataFrame(rows, columns=[*COLUMNS, "milliseconds"]).to_csv(FOLDER / "step_times.csv", index=False)


if __name__ == "__main__":
    main()
