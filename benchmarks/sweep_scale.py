"""Replay the driver's part of a large sweep: 10,000 trials and 256 workers, without training.

    python benchmarks/sweep_scale.py    a few minutes on one CPU core

Search, sharing, ledger, report, and the searcher that Ray Tune calls are the real ones; only training is left out.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import deque
from pathlib import Path

from explorer import SearchSpace, Sweep
from explorer.ledger import Record, Trial
from explorer.plan import Plan
from explorer.report.page import write_report
from explorer.search.dispatcher import Dispatcher
from explorer.search.forecast import synthetic_record
from explorer.search.optuna_logs import quiet_optuna
from explorer.search.search import Search
from explorer.search.trial_plan import compile_trial
from explorer.sweep.attempts import Attempts
from explorer.sweep.searcher import RECORD, TRIAL, SweepSearcher


def main() -> None:
    """Replay the sweep; print rates, memory, and the time to write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=256)
    options = parser.parse_args()
    space = SearchSpace.load(Path("search_spaces/digits.yaml")).with_search(plan="exhaustive").as_planned()
    each = options.trials // len(space.budgets)
    settings = {"trials": (each,) * len(space.budgets), "baseline_trials": 1, "learning_rate_grid": None, "repeat": 0}
    space = space.with_search(**settings)
    plans: dict[str, Plan] = {}

    def plan_of(trial: Trial) -> Plan:
        plans[trial.id] = compile_trial(trial, space)[1]
        return plans[trial.id]

    accuracies = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, quiet_optuna():
        sweep = Sweep(space, folder)
        sweep._open()
        dashboard = sweep._dashboard([])
        assert dashboard is not None

        def on_record(record: Record) -> None:
            dashboard.add(record)

        searcher = SweepSearcher(
            Dispatcher(Search(space), plan_of),
            sweep.ledger,
            on_record,
            lambda: None,
            attempts=Attempts(dict, print),
            error_of=lambda _: "",
            limit=lambda: options.workers,
        )
        running: deque[tuple[str, Trial]] = deque()
        started, suggesting, telling, number = time.perf_counter(), 0.0, 0.0, 0
        done = False
        while running or not done:
            while not done and len(running) < options.workers:
                before = time.perf_counter()
                config = searcher.suggest(str(number))
                suggesting += time.perf_counter() - before
                if config is None:
                    break
                if config == "FINISHED":
                    done = True
                    break
                running.append((str(number), config[TRIAL]))
                number += 1
            if not running:
                break
            name, trial = running.popleft()
            made = synthetic_record(trial, plans.pop(trial.id), accuracies.random())
            before = time.perf_counter()
            searcher.on_trial_complete(name, {RECORD: made})
            telling += time.perf_counter() - before
            if number % 500 == 0:
                print(f"{number} trials, {time.perf_counter() - started:.0f} s", flush=True)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        before = time.perf_counter()
        records = sweep.ledger.records()
        reading = time.perf_counter() - before
        before = time.perf_counter()
        write_report(sweep.ledger, Path(folder, "report"))
        reporting = time.perf_counter() - before
    print(
        f"{len(records)} trials, {options.workers} workers: {number / suggesting:.0f} suggestions a second, "
        f"{number / telling:.0f} results a second (ledger and study), {memory:.1f} GiB, "
        f"ledger read in {reading:.1f} s, report in {reporting:.1f} s"
    )


if __name__ == "__main__":
    main()
