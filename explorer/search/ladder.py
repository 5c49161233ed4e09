"""The studies of one task, a proxy or the target: one per budget and kind, from the cheapest budget up. No ray."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from explorer.ledger import KINDS, Kind, Record, Trial
from explorer.search.known_schedules import known_schedules
from explorer.search.promotion import promotion
from explorer.search.rung import Rung
from explorer.search.spending import Spending
from explorer.search.trial_plan import step_cost_in_currency
from explorer.search.warm_starts import WarmStart
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable

PASSES = (1 / 3, 1.0)
"""All budgets are visited twice: a third of the trials gives a first curve early. See benchmarks/README.md."""
CONTROLS = 2
"""Schedules that a proxy does not choose and that are tried on the target at its cheapest budget all the same."""


class Ladder:
    """The rungs of one task.

    Args:
        space: the search space of the task.
        records: what the ledger already holds of the sweep.
        unfinished: trials of the sweep that were started before and have no record.
        table: the sweep's step times, which a sweep in device-seconds needs.
        spending: says how many trials there are; `None` for as many as the space says.
        proxy: number of the proxy whose task it is, which has staged trials alone; `None` for the target.
        warm_starts: schedules of earlier sweeps that are tried on this task.

    Attributes:
        rungs: the studies, by budget and kind.
    """

    def __init__(
        self,
        space: SearchSpace,
        records: Sequence[Record],
        unfinished: Sequence[Trial],
        table: StepTimeTable | None = None,
        *,
        spending: Spending | None = None,
        proxy: int | None = None,
        warm_starts: Sequence[WarmStart] = (),
    ) -> None:
        self.space, self.proxy = space, proxy
        self.kinds: tuple[Kind, ...] = KINDS if proxy is None else ("staged",)
        self._proxy_below: Ladder | None = None
        first = known_schedules(space)
        self.rungs: list[Rung] = []
        for budget in space.budgets:
            for kind in self.kinds:
                place = (proxy, kind, budget)
                self.rungs.append(
                    Rung(
                        space,
                        budget,
                        kind,
                        [record for record in records if _place(record.trial) == place],
                        [trial for trial in unfinished if _place(trial) == place],
                        trials=spending.trials_at(budget, kind) if spending else None,
                        known_schedules=first,
                        warm_starts=[start for start in warm_starts if start.budget == budget],
                        step_cost=partial(step_cost_in_currency, space, table),
                        proxy=proxy,
                    )
                )

    def next(self, kinds: Sequence[Kind] = KINDS) -> Trial | None:
        """The next search trial of some kinds; `None` if there is none, or none before others have ended."""
        below: list[Rung | None] = [None] * len(self.kinds) + list(self.rungs)
        for share in PASSES:
            for lower, rung in zip(below, self.rungs, strict=False):
                if rung.kind in kinds and rung.has_place(share, lower):
                    return rung.ask(share, lower)
        return None

    @property
    def is_settled(self) -> bool:
        """True when all search trials have ended."""
        return all(rung.settled() for rung in self.rungs)

    @property
    def planned(self) -> int:
        """Number of search trials."""
        return sum(max(rung.wanted, rung.asked) for rung in self.rungs)

    def rung_of(self, trial: Trial) -> Rung:
        """The study that a trial belongs to."""
        return next(rung for rung in self.rungs if rung.holds(trial))

    def promote_from(self, proxy: Ladder) -> None:
        """Try the best schedules of a proxy first, at the same shares of full training; called again, it does nothing.

        On the target, schedules that the proxy does not choose are tried at the cheapest budget too.
        """
        if self._proxy_below is proxy:
            return
        self._proxy_below = proxy
        for rung in self.rungs:
            if rung.kind == "staged":
                below = next(each for each in proxy.rungs if (each.kind, each.budget) == (rung.kind, rung.budget))
                controls = CONTROLS if self.proxy is None and rung.budget == self.space.budgets[0] else 0
                rung.from_proxy = promotion(below.best_in_study(), self.space.search.promote, controls)


def _place(trial: Trial) -> tuple[int | None, Kind, object] | None:
    """Proxy, kind and budget of a search trial; `None` for repeats."""
    return (trial.proxy, trial.kind, trial.budget) if trial.phase == "search" else None
