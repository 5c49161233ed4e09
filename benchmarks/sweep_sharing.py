"""How much a sweep trains against what it must: every schedule of a grid as a trial, on real Ray.

    python benchmarks/sweep_sharing.py    about three minutes on two CPU cores

Digits, one budget, one learning rate, three fixed rate levels, all 55 divisions of the budget into tenths. The ideal trains
every distinct prefix once. It is computed here from the plans, independently of the keys that the product uses.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from figures import keep
from search.record import schedules

from explorer import Budget, SearchSpace, Sweep
from explorer.ledger import Record, Trial
from explorer.search.proposer import Status
from explorer.search.trial_plan import compile_trial

SPACE = Path(__file__).parent / "search" / "digits.yaml"


class Listed:
    """Proposes given trials."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials, self.planned = list(trials), len(trials)

    def next(self) -> Trial | Status:
        """The next trial of the list."""
        return self.trials.pop(0) if self.trials else Status.FINISHED

    def finished(self, record: Record) -> None:
        """Nothing to learn."""

    def deduplicated(self, trial: Trial, record: Record) -> None:
        """Nothing to learn."""


class ListedSweep(Sweep):
    """A sweep over given trials."""

    trials: list[Trial]

    def _search(self, records: list[Record]) -> Any:  # noqa: ARG002 (none yet)
        return Listed(self.trials)


def main() -> None:
    """Run the sweep and print executed over ideal and over planned cost."""
    space = SearchSpace.load(SPACE).model_copy(update={"budgets": (Budget(0.4),)})
    trials = [
        Trial(
            id="-".join(map(str, units)),
            phase="search",
            kind="staged",
            budget="40%",
            schedule=schedule,
            learning_rate=4e-3,
            batch_size=16,
            seed=0,
        )
        for units, schedule in schedules(space)
    ]
    random.Random(0).shuffle(trials)
    distinct: dict[tuple[Any, ...], int] = {}
    planned = 0
    for trial in trials:
        plan = compile_trial(trial, space)[1]
        planned += plan.flops
        for count, segment in enumerate(plan.segments, start=1):
            prefix = tuple((s.requested, s.steps, s.start_time, s.end_time) for s in plan.segments[:count])
            distinct[prefix] = segment.flops
    with tempfile.TemporaryDirectory() as folder:
        sweep = ListedSweep(space, folder)
        sweep.trials = trials
        sweep.run()
        outcomes = [record.outcome for record in sweep.ledger.records()]
    executed = sum(outcome.executed_flops for outcome in outcomes if outcome)
    ideal = sum(distinct.values())
    print(f"{len(outcomes)} trials: executed / ideal {executed / ideal:.3f}, executed / planned {executed / planned:.3f}")
    keep("executed / ideal", executed / ideal, 0.02)
    keep("executed / planned", executed / planned, 0.02)


if __name__ == "__main__":
    main()
