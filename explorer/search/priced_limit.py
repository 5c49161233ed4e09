"""A spending limit in full trainings, with the costs that count against it."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.errors import InvalidInput
from explorer.ledger import Trial
from explorer.ledger.spending import budget_costs
from explorer.search.trial_plan import full_training_plan, proxy_costs
from explorer.spec.budget import Budget
from explorer.spec.search_space import SearchSpace
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
    of_proxies: tuple[float, ...] = ()
    """Cost of full training of each proxy, in full trainings of the target."""

    def charges(self, trial: Trial) -> bool:
        """Whether a trial has one of the budgets and proxies that these costs are of."""
        return trial.budget in self.costs and (trial.proxy or 0) <= len(self.of_proxies)

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
    return PricedLimit(given, limit, budget_costs(space, full_training), proxy_costs(space))


def needs_step_times(space: SearchSpace) -> bool:
    """Whether the limit of a space can be divided only when step times were measured.

    Budgets and limits in full trainings need none.
    """
    if space.search.spend is None or space.currency == "flops":
        return False
    return space.search.spend.needs_full_training or any(budget.unit != "fraction" for budget in space.budgets)
