"""From a trial to what is trained: its task with its settings, and its plan."""

from __future__ import annotations

from explorer.ledger import Trial
from explorer.plan import Plan, compile_plan
from explorer.spec.rates import Rates
from explorer.spec.search_space import SearchSpace
from explorer.training.task import Task


def compile_trial(trial: Trial, space: SearchSpace) -> tuple[Task, Plan]:
    """The task of a trial with the trial's settings, and the trial's plan.

    Raises:
        InvalidInput: when the settings do not go together or the budget cannot be planned.
    """
    task = Task(space.task.with_settings(trial.learning_rate, trial.batch_size, trial.staging, trial.lr_schedule))
    return task, compile_plan(trial.schedule, task, trial.budget, task.step_cost)


def step_flops(space: SearchSpace, rates: Rates) -> int:
    """FLOPs of a training step of a space's task at requested rates.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    return Task(space.task).step_cost(rates).flops
