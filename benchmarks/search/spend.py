"""Does a sweep with a spending limit end within it, and within 10 % below it? Replayed on recorded results.

    python benchmarks/search/spend.py    a minute

Twenty replays of digits.yaml on its recorded accuracies (digits_table.csv, written by record.py): five limits,
from the cheapest useful sweep to one that reaches the most expensive budget, each with four seeds. Prefixes are shared as in a
sweep with a stage store. In every other replay four trials run side by side and one attempt in ten fails at a random step; its
trial is tried again where the limit allows it.

What was spent is added up here, not by the search: every segment that was executed, those of failed attempts included.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path

import optuna

FOLDER = Path(__file__).parent
sys.path += [str(FOLDER), str(FOLDER.parent)]
from figures import keep  # noqa: E402 (a script's neighbour folder)
from recorded import Table  # noqa: E402 (a script's neighbour)

from explorer.ledger import Record, Trial  # noqa: E402
from explorer.search.dispatcher import Dispatcher, PlannedTrial  # noqa: E402
from explorer.search.forecast import synthetic_record  # noqa: E402
from explorer.search.priced_limit import priced_limit  # noqa: E402
from explorer.search.search import Search  # noqa: E402
from explorer.search.spending import Spending  # noqa: E402
from explorer.spec.search_space import SearchSpace  # noqa: E402

LIMITS = (0.6, 1.5, 3.0, 6.0, 12.0)
"""Spending limits in full trainings."""
SEEDS = 4
FAILED_ATTEMPTS = 0.1
"""Fraction of attempts that fail, in every other replay."""


class ReplayedSweep:
    """A sweep with a spending limit on the recorded results, which can be interrupted, resumed and extended.

    Args:
        table: the recorded results.
        limit: in full trainings.
        seed: of the search, and of the failures.

    Attributes:
        spent: cost of every segment that was executed, those of failed attempts included, in full trainings.
        records: of the trials that have ended.
        attempts: of failed attempts at trials that were tried again.
        unfinished: trials that ran when the sweep was interrupted.
    """

    def __init__(self, table: Table, limit: float, seed: int) -> None:
        self.table, self.seed = table, seed
        self.space = table.space.with_search(seed=seed, repeat=1)
        self.set_limit(limit)
        self.spent = 0.0
        self.records: list[Record] = []
        self.attempts: list[Record] = []
        self.unfinished: list[Trial] = []
        self._trained: set[str] = set()
        self._chance = random.Random(seed)

    def set_limit(self, limit: float) -> None:
        """Give the sweep a limit, in full trainings."""
        self.space = self.space.with_search(spend=f"{limit} trainings")

    def search(self) -> Search:
        """The search as a driver rebuilds it from the ledger."""
        priced = priced_limit(self.space)
        assert priced is not None
        spending = Spending(self.space, priced, self.records, self.attempts)
        return Search(self.space, self.records, self.unfinished, spending=spending)

    def run(self, places: int = 1, failing: float = 0.0, stop_after: int | None = None) -> Search:
        """Run the sweep, or resume it.

        Args:
            places: number of trials that run side by side.
            failing: fraction of attempts that fail.
            stop_after: number of records after which it is interrupted.

        Returns:
            The search in its last state.
        """
        lost = [failed(trial) for trial in self.unfinished]
        again = self.search().affordable_retries(lost)
        self.attempts += again
        self.records += [record for record in lost if record not in again]
        self.unfinished = [record.trial for record in again]
        search = self.search()
        dispatcher = Dispatcher(search, self.table.plan, self.records, hold_back=False, places=places)
        running: list[PlannedTrial] = []
        while True:
            while len(running) < places and isinstance(planned := dispatcher.next(), PlannedTrial):
                running.append(planned)
            self.records += dispatcher.take_shared_records()
            if not running or (stop_after is not None and len(self.records) >= stop_after):
                break
            planned = running.pop(0)
            record = self._train(planned, search, failing)
            self.records.append(record)
            dispatcher.finished(record)
            self.records += dispatcher.take_shared_records()
        for planned in running:
            self._execute(planned, self._chance.random())
        self.unfinished = [planned.trial for planned in running]
        return search

    def _train(self, planned: PlannedTrial, search: Search, failing: float) -> Record:
        """Train a trial, with as many attempts as it takes and the limit allows."""
        while self._chance.random() < failing:
            self._execute(planned, self._chance.random())
            failure = failed(planned.trial)
            if not search.affords_another_attempt(failure):
                return failure
            self.attempts.append(failure)
            search.attempt_failed(failure)
        new = self._execute(planned, 1.0)
        return synthetic_record(planned.trial, planned.plan, self.table.accuracy(planned.trial), new)

    def _execute(self, planned: PlannedTrial, fraction: float) -> int:
        """Execute a fraction of what is not in the stage store; the segment that was not finished is not stored.

        Returns:
            Number of segments that were not in the store.
        """
        known = planned.segments_in(self._trained)
        new = planned.plan.segments[known:]
        done = fraction * len(new)
        costs = [segment.flops / planned.plan.full_flops for segment in new]
        self.spent += sum(costs[: int(done)]) + (costs[int(done)] * (done % 1) if done < len(new) else 0.0)
        self._trained.update(planned.prefixes[: known + int(done)])
        return len(new)


def failed(trial: Trial) -> Record:
    """The record of an attempt whose worker was lost."""
    return Record(
        trial=trial, status="failed", failure="lost", reason="the worker was lost", started=0, finished=0, worker="", device=""
    )


def counted(space: SearchSpace, records: list[Record]) -> dict[str, tuple[int, int, int]]:
    """Trials by budget: staged, baseline, repeats."""
    counts = {}
    for budget in space.budgets:
        trials = [record.trial for record in records if record.trial.budget == budget]
        search = [trial.kind for trial in trials if trial.phase == "search"]
        counts[str(budget)] = (search.count("staged"), search.count("baseline"), len(trials) - len(search))
    return counts


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = Table()
    fractions, kept = [], 0
    print("staged + baseline trials + repeats at each budget: of the last seed")
    print(f"| limit | spent, of the limit | within | failed attempts | {' | '.join(map(str, table.space.budgets))} |")
    print(f"|{' --- |' * (4 + len(table.space.budgets))}")
    for limit in LIMITS:
        used, within, failures = [], 0, 0
        for seed in range(options.seeds):
            sweep = ReplayedSweep(table, limit, seed)
            search = sweep.run(4, FAILED_ATTEMPTS) if seed % 2 else sweep.run()
            used.append(sweep.spent / limit)
            within += keeps_limit(sweep, search, limit)
            failures += len(sweep.attempts)
        counts = " | ".join("{} + {} + {}".format(*counts) for counts in counted(sweep.space, sweep.records).values())
        print(f"| {limit:g} | {min(used):.3f} to {max(used):.3f} | {within} of {len(used)} | {failures} | {counts} |")
        fractions, kept = [*fractions, *used], kept + within
    print(f"within the limit, within 10 % below it, and with all winners repeated: {kept} of {len(fractions)} replays")
    keep("spending limit: fraction of replays that keep it", kept / len(fractions), 0.0)
    keep("spending limit: median fraction spent", statistics.median(fractions), 0.02)


def keeps_limit(sweep: ReplayedSweep, search: Search, limit: float) -> bool:
    """Within the limit, within 10 % below it, and with all winners repeated."""
    return 0.9 * limit <= sweep.spent <= limit and not search.unaffordable_repeats


if __name__ == "__main__":
    main()
