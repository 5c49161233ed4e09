"""What of a search space can only be checked with timm, the data and the plans; before a sweep starts."""

from __future__ import annotations

import itertools

from explorer.errors import InvalidInput
from explorer.plan import compile_plan
from explorer.spec.loggers import checked_loggers
from explorer.spec.rates import AXES, Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_space import SearchSpace
from explorer.training.task import Task


def check_space(space: SearchSpace) -> None:
    """Build the model (without memory), open the data, and plan the extremes of the space.

    Raises:
        InvalidInput: naming what is wrong.
    """
    search, budgets = space.search, space.budgets
    checked_loggers(space.loggers, "loggers")
    for batch_size, staging in itertools.product(search.batch_size, search.staging.combinations()):
        task = Task(space.task.with_settings(space.task.recipe.learning_rate, batch_size, staging))
        task.check()
        lowest = search.rates_at(dict.fromkeys(AXES, 0))
        for axis in AXES:
            for level in getattr(search.rates, axis):
                task.step_cost(Rates(**{axis: level}))
        share = (search.grid - 1) / search.grid
        extreme = Schedule(
            stages=(Stage(rates=lowest, duration_ratio=share), Stage(rates=Rates(), duration_ratio=1 - share)),
            grid=search.grid,
        )
        for budget in budgets:
            try:
                compile_plan(extreme, task, budget, task.step_cost)
            except InvalidInput as error:
                allowed = f"{error.allowed} (batch_size {batch_size})"
                raise InvalidInput(f"budgets: {error.field}", error.value, allowed) from None
