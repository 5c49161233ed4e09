"""What a sweep has spent of its limit, from its records alone. What is new is charged; what is reused is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from explorer.ledger.records import Record
from explorer.ledger.time_left import recorded_relative_cost
from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace
from explorer.spec.spending_limit import SpendingLimit


@dataclass
class Charges:
    """Adds up what the trials of a sweep, and failed attempts at them, are charged, in full trainings.

    A completed trial is charged what it executed: not the segments that it took from the stage store, and nothing if it has the
    result of another trial, of this sweep or of another one.

    What an attempt that failed had executed is not recorded. A trial that is not tried again is charged the upper bound of a
    trial at its budget, unless it failed before it had a plan, for what its host lacks. A trial that is tried again finds the
    finished segments of its attempt in the stage store; it is charged its whole plan in the end, and the attempt one segment,
    which is the most that was lost unless the storage is so slow that not every segment is stored. Without a stage store, the
    attempt is charged the upper bound. An attempt that was preempted is charged nothing: the record of the trial that resumes
    it counts what both executed.
    """

    costs: Mapping[Budget, float]
    """Upper bound of the cost of a trial at each budget, in full trainings."""
    has_store: bool
    """Whether the sweep keeps a stage store."""
    of_proxies: Sequence[float] = ()
    """Cost of full training of each proxy, in full trainings of the target."""
    spent: float = 0.0
    """The sum, in full trainings."""
    _attempted: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Charge a trial that has ended and is not tried again."""
        if not record.was_trained or _failed_before_training(record):
            return
        if record.outcome is None:
            self.spent += self.bound(record.trial.budget, record.trial.proxy)
        elif record.trial.id in self._attempted and self.has_store:
            self.spent += record.outcome.planned_cost
        else:
            self.spent += record.outcome.executed_cost

    def add_attempt(self, record: Record) -> None:
        """Charge a failed attempt at a trial that is tried again. Attempts are added before the trial itself."""
        self.spent += self.of_attempt(record)
        if record.failure != "preempted":
            self._attempted.add(record.trial.id)

    def bound(self, budget: Budget, proxy: int | None) -> float:
        """Upper bound of the cost of a trial at a budget, of a proxy or of the target, `None`."""
        return self.costs[budget] * (1.0 if proxy is None else self.of_proxies[proxy - 1])

    def of_attempt(self, record: Record) -> float:
        """What such an attempt is charged."""
        if _failed_before_training(record) or record.failure == "preempted":
            return 0.0
        whole = self.bound(record.trial.budget, record.trial.proxy)
        return whole / record.trial.schedule.grid if self.has_store else whole


def budget_costs(space: SearchSpace, full_training: float | None) -> dict[Budget, float]:
    """Upper bound of the cost of a trial at each budget of a space, in full trainings.

    Args:
        space: the search space.
        full_training: cost of full training in FLOPs or device-seconds, as the currency of the space says; `None` if it is not
            known, for budgets that are shares of it.
    """
    costs = {}
    for budget in space.budgets:
        if budget.unit == "fraction":
            costs[budget] = budget.amount
        else:
            assert full_training is not None
            costs[budget] = budget.priced(space.price).amount / full_training
    return costs


@dataclass(frozen=True)
class SpendingStatus:
    """How a sweep stands with its spending limit."""

    given: SpendingLimit
    """The limit as the user gave it."""
    limit: float | None
    """The limit in full trainings; `None` where no completed trial says yet what full training costs."""
    spent: float
    """What counts against it, in full trainings."""

    @property
    def left(self) -> float | None:
        """What is left, in full trainings; `None` if the limit is not known in them."""
        return None if self.limit is None else max(0.0, self.limit - self.spent)

    def __str__(self) -> str:
        if self.limit is None:
            return f"{self.given}; what is spent of it is known when a trial is completed"
        text = self.given.spent_text(self.spent, self.limit)
        if self.given.unit == "trainings":
            return text
        return f"{text} ({self.spent:.2f} of {self.limit:.2f} full trainings)"


def spending_status(
    space: SearchSpace, given: SpendingLimit | None, records: Sequence[Record], attempts: Sequence[Record]
) -> SpendingStatus | None:
    """How a sweep stands with its limit, where only its ledger is known; `None` without a limit.

    Args:
        space: the search space of the sweep.
        given: the limit.
        records: of its trials.
        attempts: failed attempts at trials that were tried again.
    """
    if given is None:
        return None
    full = next((record.outcome for record in records if record.outcome), None)
    full_training = None if full is None else full.full_flops if full.currency == "flops" else full.full_seconds
    limit: float | None = None
    if full_training or not given.needs_full_training:
        limit = given.full_trainings(full_training or 1.0, space.currency, space.price)
    if full_training is None and any(budget.unit != "fraction" for budget in space.budgets):
        return SpendingStatus(given, limit, 0.0)  # nothing has been trained to its end, and nothing says what failed ones cost
    of_proxies = [recorded_relative_cost(space, number, records) for number in range(1, len(space.proxy) + 1)]
    total = Charges(budget_costs(space, full_training), space.store_gb > 0, of_proxies)
    for attempt in attempts:
        total.add_attempt(attempt)
    for record in records:
        total.add(record)
    return SpendingStatus(given, limit, total.spent)


def _failed_before_training(record: Record) -> bool:
    return record.failure == "place" and not record.plan
