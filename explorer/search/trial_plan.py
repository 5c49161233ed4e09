"""From a trial to what is trained: its task with its settings, and its plan, in the currency of the sweep."""

from __future__ import annotations

from typing import Any

from explorer.ledger import Trial
from explorer.plan import Plan, compile_plan
from explorer.spec.budget import Budget
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.task import TaskSpec
from explorer.training.calibration import Calibration
from explorer.training.task import Task


def compile_trial(trial: Trial, space: SearchSpace, table: StepTimeTable | None = None) -> tuple[Task, Plan]:
    """The task of a trial with the trial's settings, and the trial's plan.

    Args:
        trial: the trial, of the target or of a proxy.
        space: the search space of the sweep.
        table: the sweep's step times, which a sweep in device-seconds needs.

    Raises:
        InvalidInput: when the settings do not go together or the budget cannot be planned.
    """
    task = task_of(trial, space)
    return task, compile_in_currency(trial.schedule, task, trial.budget, space, table)


def task_of(trial: Trial, space: SearchSpace) -> Task:
    """The task of a trial: the space's task, or that of a proxy, with the trial's settings.

    Raises:
        InvalidInput: when the settings do not go together.
    """
    return Task(task_spec_of(trial, space))


def task_spec_of(trial: Trial, space: SearchSpace) -> TaskSpec:
    """The settings of that task; data and model are not opened."""
    of_trial = space if trial.proxy is None else space.proxy_space(trial.proxy)
    return of_trial.task.with_settings(trial.learning_rate, trial.batch_size, trial.staging, trial.lr_schedule, trial.optimizer)


def compile_in_currency(
    schedule: Schedule, task: Task, budget: Budget, space: SearchSpace, table: StepTimeTable | None = None
) -> Plan:
    """The plan of a schedule for a task of a sweep, in the sweep's currency.

    Full training, budget 100 %, is that of the space's recipe: the same for every batch size.

    Args:
        schedule: the schedule.
        task: the space's task with the settings of a trial.
        budget: the budget.
        space: the search space.
        table: as for `compile_trial`.

    Raises:
        InvalidInput: when the budget cannot be planned.
    """
    if space.currency == "flops" or table is None:
        return compile_plan(schedule, task, budget, task.step_cost, currency=space.currency)
    costs = Calibration.of_table(table)
    return compile_plan(
        schedule,
        task,
        budget.priced(space.price),
        costs.step_cost(task, processes=space.resources.process_count),
        currency=space.currency,
        full_seconds=costs.full_seconds(task),
    )


def full_training_plan(space: SearchSpace, table: StepTimeTable | None = None) -> Plan:
    """The plan of full training of a sweep's task: what all costs are shares of."""
    return compile_in_currency(Schedule.full_model(), Task(space.task), Budget(1.0), space, table)


def relative_cost(space: SearchSpace, proxy: int | None, table: StepTimeTable | None = None) -> float:
    """Cost of full training of a proxy, in full trainings of the target; 1 for the target, `None`."""
    if proxy is None:
        return 1.0
    return full_training_plan(space.proxy_space(proxy), table).full_cost / full_training_plan(space, table).full_cost


def proxy_costs(space: SearchSpace) -> tuple[float, ...]:
    """Cost of full training of each proxy in full trainings of the target, in FLOPs.

    In device-seconds it is the same: proxies of such sweeps have the steps of the target.
    """
    counted = space.model_copy(update={"currency": "flops"})
    return tuple(relative_cost(counted, number) for number in range(1, len(space.proxy) + 1))


def outcome_costs(plan: Plan, reused_segments: int = 0, full: Plan | None = None) -> dict[str, Any]:
    """The fields of an `Outcome` that hold the cost of a trial, planned and executed.

    Args:
        plan: the trial's plan.
        reused_segments: number of segments at its start that were not executed for this trial.
        full: a plan of the sweep's task, for a trial of a proxy; `None` where `plan` is of that task.
    """
    full = full or plan
    executed = plan.segments[reused_segments:]
    costs: dict[str, Any] = {
        "currency": plan.currency,
        "planned_flops": plan.flops,
        "executed_flops": sum(segment.flops for segment in executed),
        "full_flops": full.full_flops,
    }
    if plan.seconds is None:
        return costs
    seconds = sum(segment.seconds or 0.0 for segment in executed)
    return {**costs, "planned_seconds": plan.seconds, "charged_seconds": seconds, "full_seconds": full.full_seconds}


def step_cost_in_currency(space: SearchSpace, table: StepTimeTable | None, rates: Rates) -> int:
    """Cost of a training step of a space's task at requested rates, in the sweep's currency: FLOPs or nanoseconds.

    Raises:
        InvalidInput: when the model cannot have these rates, or there are no step times for them.
    """
    task = Task(space.task)
    processes = space.resources.process_count
    cost = task.step_cost if table is None else Calibration.of_table(table).step_cost(task, processes=processes)
    return cost(rates).amount(space.currency)
