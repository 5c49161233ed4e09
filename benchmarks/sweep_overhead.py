"""What a sweep adds to its training: wall clock x workers over seconds of training, Ray's start included.

python benchmarks/sweep_overhead.py    about four minutes on two CPU cores
"""

from __future__ import annotations

import tempfile
import time

from explorer import SearchSpace, Sweep

WORKERS, TRIALS = 2, 24


def main() -> None:
    """Run a sweep of trials of about 20 s each."""
    content = SearchSpace.load("search_spaces/digits.yaml").with_search(plan="exhaustive").as_planned().model_dump()
    content["search"] |= {"trials": [TRIALS - 2], "baseline_trials": [2], "repeat": 0, "batch_size": [16]}
    space = SearchSpace.model_validate({**content, "budgets": ["65%"]})
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        sweep = Sweep(space, folder).run()
        wall = time.time() - begun
        records = sweep.ledger.records()
    outcomes = [record.outcome for record in records if record.outcome]
    training = sum(outcome.executed_seconds or 0 for outcome in outcomes)
    evaluation = sum(outcome.evaluation_seconds for outcome in outcomes) / len(outcomes)
    first = min(record.started for record in records) - begun
    print(
        f"{len(outcomes)} trials of {training / len(outcomes):.1f} s on {WORKERS} workers in {wall:.0f} s: "
        f"{wall * WORKERS / training:.3f} x training\n"
        f"{first:.1f} s until the first trial began, {evaluation:.2f} s per trial for evaluation"
    )


if __name__ == "__main__":
    main()
