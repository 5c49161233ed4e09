"""`recipe.compile: auto` in a sweep: one choice for all trials, made where they run. No ray."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from explorer.search.step_times import steps_of
from explorer.spec.budget import Budget
from explorer.spec.rates import Rates
from explorer.spec.search_space import SearchSpace
from explorer.training.compile_choice import CompileChoice, compile_choice
from explorer.training.device import device_for
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import Task


def choice_for_sweep(
    space: SearchSpace, trials: Mapping[Budget, int], side_by_side: int, processes: Processes = SINGLE_PROCESS
) -> CompileChoice:
    """Whether compiling saves more of a sweep's time than it takes, measured on this device.

    A worker compiles each size once, whatever the number of its trials.

    Args:
        space: the search space.
        trials: number of trials at each budget.
        side_by_side: number of trials that run at the same time.
        processes: the processes of a trial, which train it together; each of them calls this function.

    Raises:
        InvalidInput: when the device cannot be used.
    """
    torch.set_num_threads(space.resources.cpus)
    task = Task(space.task)

    def length(step_seconds: float) -> float:
        full_training = task.epochs * task.train_images / task.batch_size * step_seconds
        full_cost = 10**9 * processes.count * full_training if space.currency == "device_seconds" else full_flops
        shares = [count * budget.priced(space.price).of(round(full_cost)) / full_cost for budget, count in trials.items()]
        return full_training * sum(shares) / side_by_side

    full_flops = task.epochs * task.train_images / task.batch_size * task.step_cost(Rates()).flops
    sizes = min(len(steps_of(space)), max(1, sum(trials.values()) * space.search.stages // side_by_side))
    return compile_choice(task, length, sizes, device_for(space.resources.process_gpus), processes)
