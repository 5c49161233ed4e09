"""Checks of a search space that need timm, the data or Optuna. They run before a sweep starts."""

from __future__ import annotations

import itertools

from explorer.errors import InvalidInput
from explorer.search.known_schedules import check_known_schedules
from explorer.search.proxy_checks import check_costs, check_pretrained
from explorer.search.samplers import StudySettings, make_sampler
from explorer.search.trial_plan import compile_in_currency
from explorer.spec.loggers import checked_loggers
from explorer.spec.rates import AXES, Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.trial_counts import MIN_TRIALS
from explorer.training.batches import check_batch
from explorer.training.distributed import Processes
from explorer.training.task import Task


def check_space(space: SearchSpace, table: StepTimeTable | None = None) -> None:
    """Build the model without memory, open the data, make a sampler, and plan the extremes of the space.

    Args:
        space: the search space.
        table: the sweep's step times, without which budgets in device-seconds cannot be planned yet.

    Raises:
        InvalidInput: naming the setting that is wrong.
    """
    search, budgets = space.search, space.budgets
    checked_loggers(space.loggers, "loggers")
    objectives = 1 + (search.minimize is not None)
    trials = space.trials_at(budgets[0], "staged") or MIN_TRIALS  # which a spending limit gives a budget at least
    make_sampler(search.sampler, StudySettings(seed=search.seed, trials=trials, objectives=objectives))
    for kind in search.lr_schedule:
        space.task.with_settings(space.task.recipe.learning_rate, search.batch_size[0], lr_schedule=kind)
    for name in search.optimizer:
        recipe = space.task.recipe
        choice = search.optimizer_for(name, recipe.weight_decay)
        try:
            task = Task(space.task.with_settings(recipe.learning_rate, search.batch_size[0], optimizer=choice))
            task.check_optimizer()
        except InvalidInput as error:
            raise InvalidInput(error.field.replace("recipe.", "search."), error.value, error.allowed) from None
    _check_task(space, table)
    for number in range(1, len(space.proxy) + 1):
        try:
            _check_task(_trained_part(space, number), table)
        except InvalidInput as error:
            field = "images" if error.field == "data.train_fraction" else error.field
            raise InvalidInput(f"proxy.{number - 1}: {field}", error.value, error.allowed) from None
    check_pretrained(space)
    check_costs(space)


def _trained_part(space: SearchSpace, number: int) -> SearchSpace:
    """The search space of a proxy at the budgets at which it is trained."""
    proxy = space.proxy_space(number)
    if space.search.spend is not None:
        return proxy.model_copy(update={"budgets": (space.proxy_budget,)})
    return proxy.model_copy(update={"budgets": tuple(each for each in space.budgets if proxy.trials_at(each, "staged"))})


def _check_task(space: SearchSpace, table: StepTimeTable | None) -> None:
    """Check the target or a proxy: that its model has the rates of the search, and its budgets hold a step."""
    search = space.search
    check_known_schedules(space, table)
    _check_batch_sizes(space)
    for batch_size, staging in itertools.product(search.batch_size, search.staging.combinations()):
        task = Task(space.task.with_settings(space.task.recipe.learning_rate, batch_size, staging))
        task.check()
        lowest = search.rates_at(dict.fromkeys(AXES, 0))
        for axis in AXES:
            for level in getattr(search.rates, axis):
                task.step_cost(Rates(**{axis: level}))
        for budget in space.budgets if space.currency == "flops" or table else ():
            grid = space.search_at(budget).grid
            stages = (Stage(rates=lowest, duration_ratio=(grid - 1) / grid), Stage(rates=Rates(), duration_ratio=1 / grid))
            extreme = Schedule(stages=stages, grid=grid)
            try:
                compile_in_currency(extreme, task, budget, space, table)
            except InvalidInput as error:
                allowed = f"{error.allowed} (batch_size {batch_size})"
                raise InvalidInput(f"budgets: {error.field}", error.value, allowed) from None


def _check_batch_sizes(space: SearchSpace) -> None:
    """Check that the processes of a trial can divide the batches: those of trials, and those whose step times are measured.

    Raises:
        InvalidInput: naming the batch size that does not fit.
    """
    task, recipe, processes = Task(space.task), space.task.recipe, Processes(0, space.resources.process_count)
    sizes = dict.fromkeys(space.search.batch_size, "search.batch_size")
    if processes.count > 1 or space.currency == "device_seconds":
        sizes[recipe.batch_size] = "recipe.batch_size"
    for size, field in sizes.items():
        check_batch(task, size, recipe.augmentation, processes, field)
