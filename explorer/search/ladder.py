"""The studies of one task, a proxy or the target: one per budget and kind, from the cheapest budget up. No ray."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from explorer.ledger import KINDS, Kind, Record, Trial
from explorer.search.known_schedules import known_schedules
from explorer.search.passes import ALL, PASSES
from explorer.search.promotion import promotion
from explorer.search.proposal import further_choices
from explorer.search.rung import Rung
from explorer.search.spending import Spending
from explorer.search.trial_plan import step_cost_in_currency
from explorer.search.warm_starts import WarmStart
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable

CONTROLS = 2
"""Schedules that a proxy does not choose and that are tried on the target at its cheapest budget all the same."""
TRIALS_FOR_CONTROLS = 6
"""Trials at the cheapest budget below which there is only one control, where its settings are tuned too; those that compare
learning-rate schedules and optimizers are not counted."""


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
        self._passes = PASSES if proxy is None else (ALL,)
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
        for until in self._passes:
            below: dict[Kind, Rung] = {}
            for rung in self.rungs:
                lower = below.get(rung.kind)
                if rung.kind in kinds and rung.has_place(until, lower):
                    return rung.ask(until, lower)
                if rung.wanted or rung.asked:  # others are not searched, and have nothing to hand on
                    below[rung.kind] = rung
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

        Where a proxy has no trials at a budget, those of the next larger one that has some are tried. On the target, schedules
        that the proxy does not choose are tried at the cheapest budget too.
        """
        if self._proxy_below is proxy:
            return
        self._proxy_below = proxy
        for number, rung in enumerate(each for each in self.rungs if each.kind == "staged"):
            source = next((each for each in proxy.rungs[number:] if each.completed), None)
            if source is None:
                continue
            is_cheapest = self.proxy is None and number == 0
            promoted, controls = self.space.search.promote, CONTROLS if is_cheapest else 0
            if rung.is_tuned:  # most trials vary learning rate and batch size
                trials = rung.wanted - further_choices(self.space.search)
                promoted = min(promoted, max(1, trials // 4))
                controls = CONTROLS if trials >= TRIALS_FOR_CONTROLS else 1
            rung.from_proxy = promotion(source.best_in_study(), promoted, controls)


def _place(trial: Trial) -> tuple[int | None, Kind, object] | None:
    """Proxy, kind and budget of a search trial; `None` for repeats."""
    return (trial.proxy, trial.kind, trial.budget) if trial.phase == "search" else None
