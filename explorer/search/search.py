"""Which trial comes next: one Optuna study per budget and kind, from the cheapest budget up. No ray.

The state is rebuilt from the ledger's records, so a sweep that stopped resumes, and a sweep with more trials is extended,
without special treatment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from explorer.ledger import KINDS, Record, Trial
from explorer.search.known_schedules import known_schedules
from explorer.search.proposer import Status
from explorer.search.rung import Rung
from explorer.search.trial_plan import step_cost_in_currency
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable

PASSES = (1 / 3, 1.0)
"""All budgets are visited twice: a third of the trials gives a first curve early. See benchmarks/README.md."""


class Search:
    """Proposes trials and learns from their records.

    Args:
        space: the search space.
        records: what the ledger already holds.
        unfinished: trials that were started before and have no record; they come first.
        table: the sweep's step times, which a sweep in device-seconds needs.

    Attributes:
        rungs: the studies, by budget and kind.
    """

    def __init__(
        self,
        space: SearchSpace,
        records: Sequence[Record] = (),
        unfinished: Sequence[Trial] = (),
        table: StepTimeTable | None = None,
    ) -> None:
        self.space = space
        known = [*(record.trial for record in records), *unfinished]
        first = known_schedules(space)
        self.rungs: list[Rung] = []
        for budget in space.budgets:
            for kind in KINDS:
                of_rung = {
                    trial.id for trial in known if trial.phase == "search" and (trial.kind, trial.budget) == (kind, budget)
                }
                rung_records = [record for record in records if record.trial.id in of_rung]
                rung_unfinished = [trial for trial in unfinished if trial.id in of_rung]
                self.rungs.append(
                    Rung(
                        space,
                        budget,
                        kind,
                        rung_records,
                        rung_unfinished,
                        known_schedules=first,
                        step_cost=partial(step_cost_in_currency, space, table),
                    )
                )
        self._unfinished = list(unfinished)
        self._proposed_repeats = {trial.id for trial in known if trial.phase == "repeat"}

    @property
    def planned(self) -> int:
        """Number of trials of the whole sweep, repeats with fresh seeds included.

        It falls where fewer trials than `search.repeat` succeeded: failed trials are not repeated. It rises where a trial that
        was tried again turned out to be better than one that was repeated before. A sweep is complete when it has as many
        records.
        """
        return sum(max(rung.wanted, rung.asked) + self._planned_repeats(rung) for rung in self.rungs)

    def next(self) -> Trial | Status:
        """The next trial, or why there is none."""
        if self._unfinished:
            return self._unfinished.pop(0)
        below: list[Rung | None] = [None] * len(KINDS) + list(self.rungs)
        for share in PASSES:
            for lower, rung in zip(below, self.rungs, strict=False):
                if rung.has_place(share, lower):
                    return rung.ask(share, lower)
        for rung in self.rungs:
            if rung.settled():
                for trial in self._repeats(rung):
                    if trial.id not in self._proposed_repeats:
                        self._proposed_repeats.add(trial.id)
                        return trial
        return Status.FINISHED if all(rung.settled() for rung in self.rungs) else Status.WAIT

    def finished(self, record: Record) -> None:
        """Learn from a trial that ended."""
        if record.trial.phase == "search":
            self._rung(record.trial).tell(record)

    def deduplicated(self, trial: Trial, record: Record) -> None:
        """Learn that a proposal is the same training as the trial of an earlier record."""
        self._rung(trial).deduplicated(trial, record)

    def _planned_repeats(self, rung: Rung) -> int:
        """Number of repeats of a rung: those that were proposed, and those that are or will be."""
        proposed = {name for name in self._proposed_repeats if name.startswith(f"{rung.prefix}-")}
        if rung.settled():
            return len(proposed.union(trial.id for trial in self._repeats(rung)))
        search = self.space.search
        return max(len(proposed), min(search.repeat, rung.wanted) * search.repeat_seeds)

    def _repeats(self, rung: Rung) -> list[Trial]:
        """The best trials of a rung with fresh seeds."""
        search = self.space.search
        seeds = range(search.seed + 1, search.seed + 1 + search.repeat_seeds)
        return [
            record.trial.model_copy(
                update={
                    "id": f"{record.trial.id}-seed{seed}",
                    "phase": "repeat",
                    "seed": seed,
                    "parameters": {},
                    "repeat_of": record.trial.id,
                }
            )
            for record in rung.best(search.repeat)
            for seed in seeds
        ]

    def _rung(self, trial: Trial) -> Rung:
        return next(rung for rung in self.rungs if rung.holds(trial))
