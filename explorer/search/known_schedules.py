"""Known-good schedules, which a search tries before all others (`search.first`)."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.errors import InvalidInput
from explorer.plan import compile_plan
from explorer.search.proposal import first_guesses, staging_for, variables_of
from explorer.search.trial_plan import compile_in_currency
from explorer.spec.budget import Budget
from explorer.spec.presets import load_schedule
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.training.batches import check_batches
from explorer.training.distributed import Processes
from explorer.training.task import Task


@dataclass(frozen=True)
class KnownSchedule:
    """A schedule of `search.first`."""

    name: str
    """Name or file, as in the search space."""
    schedule: Schedule
    """The schedule, without the measurements of its file: those are of another sweep."""
    variables: dict[str, float] | None
    """The variables of a study that stand for it; `None` if no values of the variables give it."""


def known_schedules(space: SearchSpace) -> tuple[KnownSchedule, ...]:
    """The schedules of `search.first`.

    Raises:
        InvalidInput: when there is no such schedule, or it is written in epochs, which cost something else at every budget.
    """
    known = []
    for name in space.search.first:
        schedule = load_schedule(name, space.task.model.name).model_copy(update={"provenance": None})
        if schedule.in_epochs:
            reason = "is written in epochs, which fit a single budget; write duration_ratio, the share of any budget"
            raise InvalidInput("search.first", name, reason)
        made_for_task = all(getattr(space.task.staging, key) == value for key, value in schedule.staging.items())
        known.append(KnownSchedule(name, schedule, variables_of(space.search, schedule) if made_for_task else None))
    return tuple(known)


def check_known_schedules(space: SearchSpace, table: StepTimeTable | None = None) -> tuple[str, ...]:
    """Plan the schedules of `search.first` at every budget.

    Args:
        space: the search space.
        table: the sweep's step times, without which budgets in device-seconds cannot be planned yet.

    Returns:
        What to say before the sweep: shares of an augmentation that the task does not have.

    Raises:
        InvalidInput: naming the schedule that the task cannot train, and why.
    """
    said: dict[str, None] = {}
    if not space.search.first:
        return ()
    guess = first_guesses(space.search, "staged", space.task.recipe)[0]
    for known in known_schedules(space):
        try:
            staging = {**staging_for(space.search, "staged", guess), **known.schedule.staging}
            task = Task(space.task.with_settings(space.task.recipe.learning_rate, guess["batch_size"], staging))
            for stage in known.schedule.stages:
                task.step_cost(stage.rates)
            processes = Processes(0, space.resources.process_count)
            check_batches(task, compile_plan(known.schedule, task, Budget(1.0), task.step_cost), processes)
            for budget in space.budgets if space.currency == "flops" or table else ():
                compile_in_currency(known.schedule, task, budget, space, table)
        except InvalidInput as error:
            raise InvalidInput(f"search.first: {known.name}: {error.field}", error.value, error.allowed) from None
        said |= dict.fromkeys(f"search.first: {known.name}: {line}" for line in task.without_effect(known.schedule))
    return tuple(said)
