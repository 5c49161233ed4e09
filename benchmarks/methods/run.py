"""Methods side by side: every search space of this folder, by the product's own search and trials, into results.csv.

    python benchmarks/methods/run.py [--storage sweeps] [--only depth ...]    40 minutes on one core; goes on where it stopped

What `explorer sweep` does, without Ray: one process, one trial after the other, so that a training which several methods have
in common (the full model's, above all) is done once and copied. Each method searches schedule, learning rate and batch size
with the same number of trials; the winners of each budget are repeated with five fresh seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console

from explorer import SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.trials import describe
from explorer.ledger import Ledger, Record, SweepHeader, Trial
from explorer.schedule import AXES
from explorer.sweep.search import Search
from explorer.sweep.sharing import SharedWork
from explorer.sweep.trial import compiled, run_trial

FOLDER = Path(__file__).parent
METHODS = ("full", "width", "tokens", "resize", "depth", "all", "sweep")
"""`full` is the baseline of every one of the spaces."""


def same_training(trial: Trial, space: SearchSpace) -> str:
    """Equal for trials that train the same; how stages are made does not matter to the full model."""
    staging = (space.staging.model_dump_json(), trial.staging) if trial.kind == "staged" else ""
    stages = [stage.model_dump_json() for stage in trial.schedule.stages]
    return repr((trial.budget, stages, trial.schedule.grid, trial.learning_rate, trial.batch_size, trial.seed, staging))


def run(space: SearchSpace, ledger: Ledger, known: dict[str, Record], console: Console) -> Iterator[None]:
    """Run the trials that a method's ledger lacks, one an iteration; `known` trainings of other methods are copied."""
    if not ledger.exists:
        content = space.model_dump(mode="json")
        ledger.create(SweepHeader(name=space.name, space=content, created=time.time(), versions={}, hardware="one core"))
    records = ledger.records()
    search = Search(space, records, ledger.unfinished(records))
    work = SharedWork(search, lambda trial: compiled(trial, space)[1], records, hold=False)
    while isinstance(trial := work.next(), Trial):
        key = same_training(trial, space)
        if key in known:
            record = known[key].model_copy(update={"trial": trial})
            ledger.append(record)
            work.finished(record)
        else:
            ledger.start(trial)
            record = run_trial(trial, space, ledger)
            accuracy = f"{record.outcome.validation_accuracy:.3f}" if record.outcome else record.reason
            console.print(f"{space.name} {trial.id}: {accuracy}, {record.finished - record.started:.0f} s", highlight=False)
            known[key] = record
            work.finished(record)
            yield


def table(storage: str) -> pd.DataFrame:
    """One row a fresh seed of each method's winner of each budget."""
    rows = []
    for method in METHODS:
        ledger = Ledger(f"{storage}/methods_{METHODS[1] if method == 'full' else method}")
        if not ledger.exists:
            continue
        trials = trials_frame(ledger.records())
        winners = best_by_budget(trials)
        for winner in winners[winners.kind == ("baseline" if method == "full" else "staged")].itertuples():
            runs = trials[(trials.candidate == winner.id) & (trials.phase == "confirm") & (trials.status == "completed")]
            for run in runs.itertuples():
                stages = [f"{' '.join(f'{getattr(s.rates, axis):g}' for axis in AXES)} x{s.steps}" for s in run.stages]
                rows.append(
                    {
                        "method": method,
                        "budget": run.budget,
                        "seed": run.seed,
                        "cost": round(run.cost, 6),
                        "validation_accuracy": round(run.validation_accuracy, 6),
                        "test_accuracy": round(run.test_accuracy, 6),
                        "learning_rate": run.learning_rate,
                        "batch_size": run.batch_size,
                        "stages": "; ".join(stages),
                        "schedule": describe(run.schedule),
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", default="sweeps")
    parser.add_argument("--only", nargs="*", choices=METHODS[1:], default=METHODS[1:])
    parser.add_argument("--collect", action="store_true", help="train nothing, write the table of what there is")
    options = parser.parse_args()
    spaces = {method: SearchSpace.load(FOLDER / f"{method}.yaml") for method in METHODS[1:]}
    ledgers = {method: Ledger(f"{options.storage}/{space.name}") for method, space in spaces.items()}
    known = {
        same_training(record.trial, space): record
        for method, space in spaces.items()
        if ledgers[method].exists
        for record in ledgers[method].records()
        if record.outcome
    }
    console = Console()
    running = [] if options.collect else [run(spaces[method], ledgers[method], known, console) for method in options.only]
    while running:  # in turn, so that what is there after an interruption compares
        running = [each for each in running if next(each, "done") != "done"]
    table(options.storage).to_csv(FOLDER / "results.csv", index=False)


if __name__ == "__main__":
    main()
