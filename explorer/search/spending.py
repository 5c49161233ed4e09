"""Keeps a search within its spending limit: what is spent, what is reserved, how many trials each rung may have. No ray.

The state follows from the records and the started trials of the ledger alone, so that a sweep that stopped resumes within the
same limit, and one that is given a larger limit is extended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from explorer.errors import InvalidInput
from explorer.ledger import Record, Trial
from explorer.ledger.spending import Charges, budget_costs
from explorer.search.allocation import (
    CONTINGENCY,
    MAX_UNSPENT,
    ROUNDING,
    BudgetTrials,
    Rule,
    RungState,
    affordable_winners,
    divide,
)
from explorer.search.proposal import every_setting
from explorer.search.rung import Rung
from explorer.search.trial_plan import full_training_plan
from explorer.spec.budget import Budget
from explorer.spec.search_space import KINDS, SearchSpace
from explorer.spec.spending_limit import FIELD, SpendingLimit
from explorer.spec.step_times import StepTimeTable


@dataclass(frozen=True)
class PricedLimit:
    """A spending limit, and the costs that count against it, in full trainings."""

    given: SpendingLimit
    """The limit as it was given."""
    limit: float
    """The limit in full trainings."""
    costs: dict[Budget, float]
    """Upper bound of the cost of a trial at each budget, in full trainings."""

    def text(self, full_trainings: float) -> str:
        """An amount of full trainings in the unit of the limit."""
        return self.given.text(full_trainings, self.limit)


def priced_limit(space: SearchSpace, table: StepTimeTable | None = None) -> PricedLimit | None:
    """The spending limit of a search space in full trainings of its task; `None` if there is none.

    Args:
        space: the search space.
        table: the sweep's step times; `None` while there are none.

    Raises:
        InvalidInput: when the limit does not fit the currency of the space, or needs the table.
    """
    given = space.search.spend
    if given is None:
        return None
    given.check_fits(space.currency, space.price)
    full_training: float | None = None
    if space.currency == "flops" or table is not None:
        plan = full_training_plan(space, table)
        full_training = float(plan.full_flops) if space.currency == "flops" else plan.full_seconds
    if full_training is None and needs_step_times(space):
        raise InvalidInput(FIELD, str(given), "is counted in full trainings here, and their step times are not measured yet")
    limit = given.full_trainings(full_training or 1.0, space.currency, space.price)
    return PricedLimit(given, limit, budget_costs(space, full_training))


def needs_step_times(space: SearchSpace) -> bool:
    """Whether the limit of a space can be divided only when step times were measured.

    Budgets and limits in full trainings need none.
    """
    if space.search.spend is None or space.currency == "flops":
        return False
    return space.search.spend.needs_full_training or any(budget.unit != "fraction" for budget in space.budgets)


class Spending:
    """The spending of one run of a search.

    Args:
        space: the search space.
        priced: its limit.
        records: what the ledger already holds.
        attempts: failed attempts at trials that were, or are, tried again.

    Attributes:
        charges: what has ended, with its cost.
        winners: number of the best trials of each kind and budget that are repeated.

    Raises:
        InvalidInput: when the limit is below the cheapest useful sweep.
    """

    def __init__(
        self, space: SearchSpace, priced: PricedLimit, records: Sequence[Record] = (), attempts: Sequence[Record] = ()
    ) -> None:
        self.space, self.priced = space, priced
        self.costs = [priced.costs[budget] for budget in space.budgets]
        self.charges = Charges(priced.costs, space.store_gb > 0)
        for attempt in attempts:
            self.charges.add_attempt(attempt)
        for record in records:
            self.charges.add(record)
        search = space.search
        staged, baseline = self._new_states()
        rule = Rule(winners=max(1, search.repeat), seeds=search.repeat_seeds, first=len(search.first))
        self.winners = affordable_winners(self._plannable, staged, baseline, rule)
        if not self.winners:
            raise self._below_useful(replace(rule, winners=1), staged, baseline)
        self._rule = replace(rule, winners=self.winners)
        divided = divide(self._plannable, staged, baseline, self._rule)
        assert divided is not None
        self.at_start = [
            BudgetTrials(
                cost=cost,
                staged=of_staged,
                baseline=of_baseline,
                repeats=self._rule.repeats(staged[0], of_staged) + self._rule.repeats(baseline[0], of_baseline),
            )
            for cost, of_staged, of_baseline in zip(self.costs, *divided, strict=True)
        ]
        """Trials of each budget if nothing is shared, which is what the limit guarantees."""

    @property
    def limit(self) -> float:
        """The limit in full trainings."""
        return self.priced.limit

    @property
    def spent(self) -> float:
        """Cost of all trials and attempts that have ended, in full trainings."""
        return self.charges.spent

    @property
    def _plannable(self) -> float:
        """The limit without what is kept for failed attempts."""
        return self.limit * (1 - CONTINGENCY)

    def status(self) -> str:
        """What is spent and what is left, in the unit of the limit."""
        return self.priced.given.spent_text(self.spent, self.limit)

    def trials_at(self, budget: Budget, kind: str) -> int:
        """Number of search trials at a budget if nothing is shared."""
        trials = self.at_start[self.space.budgets.index(budget)]
        return trials.staged if kind == "staged" else trials.baseline

    def set_trials(self, rungs: Sequence[Rung], running: float, repeats_left: Callable[[Rung], int | None]) -> None:
        """Set how many trials each rung is to have, from what is left.

        Args:
            rungs: of all budgets, the kinds of a budget next to each other as in `KINDS`.
            running: upper bound of the cost of what runs, in full trainings.
            repeats_left: number of repeats that the best trials of a rung still need; `None` before its first one.
        """
        states = self._states(rungs, repeats_left)
        left = self._plannable - self.spent - running
        counts = None
        reserved = sum(self._rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in states)
        is_open = all(state.repeats_left is None for of_kind in states for state in of_kind)
        unspent = self.limit - self.spent - running - reserved
        if is_open or unspent > MAX_UNSPENT * self.limit + ROUNDING:
            counts = divide(left, states[0], states[1], self._rule)
        for number, rung in enumerate(rungs):
            position, kind = divmod(number, len(KINDS))
            rung.wanted = counts[kind][position] if counts else rung.asked

    def affords(self, cost: float, running: float, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> bool:
        """Whether this much more can be spent on top of what runs and of the repeats that are reserved; see `set_trials`."""
        states = self._states(rungs, repeats_left)
        reserved = sum(self._rule.cost(of_kind, [state.asked for state in of_kind]) for of_kind in states)
        return self.spent + running + reserved + cost <= self.limit + ROUNDING

    def cost_of(self, trial: Trial) -> float:
        """Upper bound of the cost of a trial, in full trainings."""
        return self.priced.costs[trial.budget]

    def larger_limit(self, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> str:
        """What a larger limit would add to a search, in a sentence; see `set_trials`."""
        return self._larger_limit(self._states(rungs, repeats_left), self.spent)

    def larger_limit_at_start(self) -> str:
        """What a larger limit would add to a sweep that has not begun, in a sentence."""
        return self._larger_limit(self._new_states(), 0.0)

    def _larger_limit(self, states: Sequence[Sequence[RungState]], spent: float) -> str:
        """What a larger limit would add to what the states say and what was spent."""
        staged, baseline = states
        asked = sum(state.asked for state in (*staged, *baseline))
        searched = sum(state.asked > 0 for state in staged) or sum(trials.staged > 0 for trials in self.at_start)
        if searched < len(self.costs):
            needed = (spent + self._rule.useful_cost(staged, baseline, searched + 1)) / (1 - CONTINGENCY)
            of_staged, of_baseline = (counts[searched] for counts in self._rule.minimum(staged, baseline, searched + 1))
            return (
                f"a limit of {self._rounded_up(needed)} would add the budget {self.space.budgets[searched]}, with at least "
                f"{of_staged} staged and {of_baseline} baseline trials and repeats of the best"
            )
        twice = divide(2 * self._plannable - spent, staged, baseline, self._rule)
        asked = asked or sum(trials.staged + trials.baseline for trials in self.at_start)
        more = sum(map(sum, twice)) - asked if twice else 0
        if more <= 0:
            return "a larger limit would add nothing: every setting of the search space is tried"
        return f"all budgets are searched; twice the limit would add about {more} trials"

    def _rounded_up(self, full_trainings: float) -> str:
        """An amount in the unit of the limit, with a margin for the rounding of its text."""
        return self.priced.text(full_trainings * 1.0005 + ROUNDING)

    def _new_states(self) -> list[list[RungState]]:
        """The states of each kind before the sweep begins."""
        settings = [every_setting(self.space.search, kind) for kind in KINDS]
        distinct = [None if each is None else len(each) for each in settings]
        return [[RungState(cost=cost, distinct=number) for cost in self.costs] for number in distinct]

    def _states(self, rungs: Sequence[Rung], repeats_left: Callable[[Rung], int | None]) -> list[list[RungState]]:
        """The states of the rungs of each kind."""
        return [
            [
                RungState(cost=cost, asked=rung.asked, distinct=rung.distinct, repeats_left=repeats_left(rung))
                for cost, rung in zip(self.costs, rungs[kind :: len(KINDS)], strict=True)
            ]
            for kind in range(len(KINDS))
        ]

    def _below_useful(self, rule: Rule, staged: Sequence[RungState], baseline: Sequence[RungState]) -> InvalidInput:
        fewest_staged, fewest_baseline = (counts[0] for counts in rule.minimum(staged, baseline, 1))
        repeats = rule.repeats(staged[0], fewest_staged) + rule.repeats(baseline[0], fewest_baseline)
        needed = self._rounded_up(rule.useful_cost(staged, baseline, 1) / (1 - CONTINGENCY))
        return InvalidInput(
            FIELD,
            str(self.priced.given),
            f"must be at least {needed}, the cheapest useful sweep: {fewest_staged} staged and {fewest_baseline} baseline "
            f"trials at {self.space.budgets[0]}, and the best of each kind again with {rule.seeds} fresh seeds ({repeats} "
            f"repeats), each of at most {self.priced.text(self.costs[0])}; a cheaper first budget or fewer search.repeat_seeds "
            "need less",
        )
