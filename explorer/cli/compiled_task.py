"""A schedule compiled for the task of a file, as `plan` and `train` need it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.cli.shared import Images, console, load_task, warn, with_checked_images
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.plan import Plan, compile_plan
from explorer.spec.budget import Budget
from explorer.spec.schedule import Schedule

if TYPE_CHECKING:
    from explorer.spec.inventory import Inventory
    from explorer.spec.step_times import Setting
    from explorer.spec.task_file import Resources
    from explorer.training.task import Task


@dataclass(frozen=True)
class CompiledTask:
    """A task, the plan of a schedule for it, and where it will be trained."""

    plan: Plan
    task: Task
    resources: Resources
    device: str
    """`cuda` or `cpu`."""
    inventory: Inventory
    """What is in the data set."""
    calibrated: Setting | None
    """Where the step times of the plan were measured; `None` if it has none."""


def compile_for_task(
    schedule: Schedule,
    task_path: Path,
    budget: str,
    calibration: Path | None,
    price: float | None,
    images: Images,
    processes: int = 1,
    device_on_cluster: str | None = None,
    trains: bool = True,
) -> CompiledTask:
    """Compile a schedule, with measured step times if there is a calibration, and say what it does not do as written.

    Args:
        schedule: the schedule; the settings that it was measured with replace those of the task.
        task_path: a task file or a search space.
        budget: as given on the command line.
        calibration: file with step times, which budgets in time or money need.
        price: price of a device-hour, which budgets in money need.
        images: which images are read and decoded first.
        processes: number of processes that train together.
        device_on_cluster: `cuda` or `cpu`, if the processes run on a Ray cluster; `None` if they run on this machine.
        trains: whether the plan will be trained at once. One that is only read may be for the GPU of the calibration.

    Raises:
        InvalidInput: when a file or the budget cannot be used.
    """
    import torch

    from explorer.data.streamed import StreamedData
    from explorer.training.batches import check_batches
    from explorer.training.calibration import Calibration
    from explorer.training.device import available_device, device_name
    from explorer.training.distributed import Processes
    from explorer.training.task import Task

    parsed = Budget.parse(budget).priced(price)
    task, file = load_task(task_path, schedule)
    measured = Calibration.load(calibration) if calibration else None
    device, elsewhere = device_on_cluster or available_device(file.resources.gpus), device_on_cluster is not None
    if measured and not trains and file.resources.gpus and measured.setting.device not in ("cpu", device_name(device)):
        device, elsewhere = "cuda", True
        print_line(console, f"planned for {measured.setting.device}, of which the calibration is, and which is not here")
    if parsed.device and parsed.device != (kind := "CPU" if device == "cpu" else "GPU"):
        gpus = f"resources.gpus: {file.resources.gpus:g}"
        where = "this machine" if device_on_cluster is None else "the Ray cluster"
        obstacle = _obstacle(file.resources, device_on_cluster)
        others = "" if trains else ", or --calibration with a file of that device"
        allowed = f"allowed are {kind}-hours, a share such as 25%, and FLOPs{others}"
        raise InvalidInput("budget", str(parsed), f"training would run on a {kind} of {where} ({gpus}{obstacle}); {allowed}")
    provenance = schedule.provenance
    currency = parsed.currency(provenance.currency if provenance else "flops")
    table = provenance.step_times if provenance else None
    if measured is None and currency == "device_seconds" and table and processes in (1, table.setting.processes):
        measured = Calibration.of_table(table)
    if measured is None and currency == "device_seconds" and processes > 1:
        command = f"explorer calibrate --task {task_path} --schedule SCHEDULE --processes {processes}"
        raise InvalidInput("budget", str(parsed), f"needs step times of {processes} processes: {command}, then --calibration")
    compiled_then = measured.setting.task.recipe.compile if measured else "auto"
    if task.spec.recipe.compile == "auto" and compiled_then != "auto":  # the choice that the step times were measured with
        task = Task(task.spec.with_compilation(compiled_then))

    def compiled(task: Task) -> Plan:
        cost = measured.step_cost(task, device, processes, other_machine=elsewhere) if measured else task.step_cost
        full_seconds = measured.full_seconds(task) if measured else None
        plan = compile_plan(schedule, task, parsed, cost, currency=currency, full_seconds=full_seconds)
        check_batches(task, plan, Processes(0, processes))
        return plan

    compiled(task)  # what is refused is refused before images are read, which may take long
    if trains and device_on_cluster is None:
        task.check_downloads()
    task, inventory = with_checked_images(task, images)
    is_main = os.environ.get("RANK", "0") == "0"  # under torchrun, the main process alone
    if images == "all" and device_on_cluster is None and isinstance(task.data, StreamedData) and is_main:
        task.data.prepare(torch.device(device), console)
    plan = compiled(task)
    warn(*task.without_effect(schedule), *_stages_without_steps(schedule, plan))
    if schedule.in_epochs and is_main:
        print_line(console, _lengthened(schedule, plan))
    return CompiledTask(plan, task, file.resources, device, inventory, measured.setting_for(task) if measured else None)


def _stages_without_steps(schedule: Schedule, plan: Plan) -> list[str]:
    """What to say of stages whose share of the budget holds no whole step, or is rounded to no slot of the schedule's grid."""
    trained = {segment.stage for segment in plan.segments}
    return [
        f"stage {number} of {len(schedule.stages)} is not trained: its share of {plan.budget}, {stage.duration_ratio:.3g}, is "
        f"rounded to 0 of {schedule.grid} slots or holds no whole step"
        for number, stage in enumerate(schedule.stages, start=1)
        if stage.duration_ratio and number - 1 not in trained
    ]


def _obstacle(resources: Resources, device_on_cluster: str | None) -> str:
    """Why a GPU that is asked for cannot be used on this machine, after a colon; empty if none is asked for."""
    from explorer.training.device import gpu_obstacle

    obstacle = gpu_obstacle() if resources.gpus and device_on_cluster is None else None
    return f", which cannot be used: {obstacle}" if obstacle else ""


def _lengthened(schedule: Schedule, plan: Plan) -> str:
    """How long the stages of a schedule in epochs are, to spend the budget."""
    written = [stage.epochs or 0.0 for stage in schedule.stages]
    planned = {row.stage: row.epochs for row in plan.stages()}
    longer = sum(planned.values()) / sum(written) - 1
    lengths = ", ".join(f"{epochs:g}" for epochs in written)
    spent = ", ".join(f"{planned.get(stage, 0):.4g}" for stage in range(len(written)))
    return f"stages of {lengths} epochs: {spent} epochs spend the budget ({longer:+.1%})"
