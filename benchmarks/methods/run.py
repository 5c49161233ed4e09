"""Run every search space of this folder with the search and the trials of this package, and write results.csv.

    python benchmarks/methods/run.py [--storage sweeps]  resumes when interrupted

This does what `explorer sweep` does, in one process without Ray. All staged methods search schedule, learning rate, and batch
size with the same number of trials. The baseline (full.yaml) searches more learning rates and batch sizes with more trials. The
winners of each budget are repeated with five fresh seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from explorer import SearchSpace
from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.trials import describe
from explorer.ledger import Kind, Ledger, Trial
from explorer.search.rung import Rung
from explorer.search.search import Search
from explorer.spec.rates import AXES

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent)]
from one_process import opened, trained  # noqa: E402 (a module in the folder of the benchmarks)

RESULTS = FOLDER / "results.csv"
METHODS = ("full", "width", "tokens", "resize", "depth", "all", "sweep", "copies")


def space_of(method: str) -> SearchSpace:
    """The search space of a method."""
    return SearchSpace.load(FOLDER / f"{method}.yaml")


def kind_of(method: str) -> Kind:
    """Kind of the trials that belong to a method."""
    return "baseline" if method == "full" else "staged"


class OneKind(Search):
    """A search with trials of one kind only: baseline trials are those of full.yaml."""

    def __init__(self, space: SearchSpace, ledger: Ledger, kind: Kind) -> None:
        records = ledger.records()
        super().__init__(space, records, [trial for trial in ledger.unfinished(records) if trial.kind == kind])
        self.kind = kind
        for rung in self.rungs:
            if rung.kind != kind:
                rung.wanted = 0

    def _repeats(self, rung: Rung) -> list[Trial]:
        return super()._repeats(rung) if rung.kind == self.kind else []


def run(space: SearchSpace, ledger: Ledger, kind: Kind, console: Console) -> Iterator[None]:
    """Run the trials that are missing from a ledger, one per iteration."""
    for record in trained(OneKind(space, ledger, kind), space, ledger):
        accuracy = f"{record.outcome.validation:.3f}" if record.outcome else record.reason
        seconds = record.finished - record.started
        console.print(f"{space.name} {record.trial.id}: {accuracy}, {seconds:.0f} s", highlight=False)
        yield


def table(storage: str, methods: Sequence[str]) -> pd.DataFrame:
    """One row per fresh seed of the winner of each method and budget."""
    rows = []
    for method in methods:
        ledger = Ledger(f"{storage}/{space_of(method).name}")
        if not ledger.exists:
            continue
        trials = trials_frame(ledger.records())
        winners = best_by_budget(trials)
        for winner in winners[winners.kind == kind_of(method)].itertuples():
            runs = trials[(trials.candidate == winner.id) & (trials.phase == "repeat") & (trials.status == "completed")]
            for run in runs.itertuples():
                stages = [f"{' '.join(f'{getattr(s.rates, axis):g}' for axis in AXES)} x{s.steps}" for s in run.stages]
                rows.append(
                    {
                        "method": method,
                        "budget": run.budget,
                        "seed": run.seed,
                        "cost": round(run.cost, 6),
                        "validation_accuracy": round(run.validation_score, 6),
                        "test_accuracy": round(run.test_score, 6),
                        "learning_rate": run.learning_rate,
                        "batch_size": run.batch_size,
                        "stages": "; ".join(stages),
                        "schedule": describe(run.schedule),
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    """Run the missing trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", default="sweeps")
    parser.add_argument("--only", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--collect", action="store_true", help="write the table of the existing results without training")
    options = parser.parse_args()
    running = []
    for method in () if options.collect else options.only:
        space, kind = space_of(method), kind_of(method)
        running.append(run(space, opened(space, options.storage), kind, Console()))
    while running:  # in turn, so that results after an interruption are comparable
        running = [each for each in running if next(each, "done") != "done"]
    found = table(options.storage, options.only)
    if RESULTS.exists():  # keep the rows of methods that were not requested
        kept = pd.read_csv(RESULTS)
        found = pd.concat([kept[~kept.method.isin(found.method)], found])
    found.sort_values("method", key=lambda names: names.map(METHODS.index), kind="stable").to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
