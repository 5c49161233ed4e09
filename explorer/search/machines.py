"""The machines that will run a sweep, as its forecast counts and measures them. No ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from explorer.spec.rates import AXES, Rates
from explorer.spec.search_space import SearchSpace
from explorer.spec.task_file import Resources
from explorer.training.device import device_for, device_name, gpu_obstacle
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.step_time import step_seconds
from explorer.training.task import Task

ACCELERATOR = "accelerator_type:"
"""Start of the names of Ray's resources that say which kind of GPU a node has; a node has 1 of its kind."""
ACCELERATOR_SHARE = 0.001
"""Amount of that resource that a trial takes: as many trials as there are GPUs must fit."""


@dataclass(frozen=True)
class StepTimes:
    """Time of a training step, linear in its FLOPs."""

    overhead: float
    """Seconds per step that do not depend on its size."""
    per_flop: float
    """Seconds per FLOP."""
    device: str
    """Name of the device on which both were measured; `cpu` for the CPU."""
    processes: int = 1
    """Number of processes that trained together when both were measured."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The machines that will run a sweep."""

    where: str
    """`this machine`, or `the cluster at` an address."""
    nodes: int
    cpus: float
    gpus: float
    places: int
    """Number of trials that they can run side by side."""
    times: StepTimes | None
    """`None` where steps were not timed."""
    no_times: str = ""
    """Why they were not."""

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes, " if self.nodes != 1 else ""
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"
        return f"{self.where} ({nodes}{cpus}, {self.gpus:g} GPU{'s' if self.gpus != 1 else ''})"


def this_machine(space: SearchSpace) -> Machines:
    """This machine, with step times measured on it. Where trials ask for more than it has, nothing is timed: a step that was
    made for a GPU may take the CPU an hour, and 64 threads on two cores are slower than two.
    """
    obstacle = gpu_obstacle() if space.resources.gpus else None
    here = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    places = count_places(space.resources, [here])
    no_times = f"trials train on a GPU, and this machine has none that can be used: {obstacle}" if obstacle else ""
    if not places and not no_times:
        no_times = f"a trial needs {wanted_text(space.resources)}: more than the {here['CPU']:g} CPUs of this machine"
    return Machines(
        where="this machine",
        nodes=1,
        cpus=here["CPU"],
        gpus=here["GPU"],
        places=places,
        times=None if no_times else measure_step_times(space),
        no_times=no_times,
    )


def wanted(resources: Resources) -> dict[str, float]:
    """The resources of each process of a trial, by Ray's names; without those that it does not need."""
    amounts = {"CPU": float(resources.cpus), "GPU": resources.process_gpus}
    if resources.accelerator:
        amounts[ACCELERATOR + resources.accelerator] = ACCELERATOR_SHARE
    return {name: amount for name, amount in amounts.items() if amount}


def wanted_on_a_node(resources: Resources) -> dict[str, float]:
    """What a node must have to get work: the resources of a whole trial, or of a process where they may be on several nodes."""
    processes = 1 if resources.spread else resources.process_count
    return {name: processes * amount for name, amount in wanted(resources).items()}


def wanted_text(resources: Resources) -> str:
    """The resources of a trial as text: `1 CPU and 0.5 GPU`, or `2 processes of 1 CPU and 1 GPU (H100)`."""
    kind = f" ({resources.accelerator})" if resources.accelerator else ""
    amounts = (("CPU", resources.cpus), (f"GPU{kind}", resources.process_gpus))
    each = " and ".join(f"{amount:g} {name}" for name, amount in amounts if amount)
    return each if resources.process_count == 1 else f"{resources.process_count} processes of {each}"


def count_places(resources: Resources, nodes: Iterable[Mapping[str, float]]) -> int:
    """Number of trials that nodes with these resources can run side by side."""
    each, processes = wanted(resources), resources.process_count
    of_nodes = [min(int(node.get(name, 0) / amount + 1e-9) for name, amount in each.items()) for node in nodes]
    return sum(of_nodes) // processes if resources.spread else sum(count // processes for count in of_nodes)


def measure_step_times(space: SearchSpace, processes: Processes = SINGLE_PROCESS) -> StepTimes:
    """Measure the step of the full model and that of the lowest rates on this device, and draw a line through both.

    Args:
        space: the search space.
        processes: the processes that train together; each of them calls this function. A single one measures its part of the
            batch where trials have several.

    Raises:
        InvalidInput: when trials ask for a GPU that torch cannot use.
    """
    torch.set_num_threads(space.resources.cpus)
    task, device = Task(space.task), device_for(space.resources.gpus)
    timed = task
    if processes.count < space.resources.process_count:
        recipe = space.task.recipe
        part = recipe.batch_size // space.resources.process_count
        timed = Task(space.task.with_settings(recipe.learning_rate, part))
    name = device_name(device)
    lowest = space.search.rates_at(dict.fromkeys(AXES, 0))
    full_seconds, full_flops = step_seconds(timed, Rates(), device, processes=processes), task.step_cost(Rates()).flops
    if lowest.full:
        return StepTimes(0.0, full_seconds / full_flops, name, processes.count)
    low_seconds, low_flops = step_seconds(timed, lowest, device, processes=processes), task.step_cost(lowest).flops
    low_seconds = min(low_seconds, full_seconds)
    per_flop = (full_seconds - low_seconds) / (full_flops - low_flops)
    return StepTimes(max(0.0, full_seconds - per_flop * full_flops), per_flop, name, processes.count)
