"""What several commands share: the console, options, and how a task is loaded."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec

import typer
from rich.console import Console

from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.spec.imports import imports_line
from explorer.spec.presets import load_schedule
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from explorer.spec.task_file import TaskFile

if TYPE_CHECKING:
    from explorer.data.check import CheckedData
    from explorer.spec.data import DataSpec
    from explorer.spec.inventory import Inventory
    from explorer.training.task import Task

P = ParamSpec("P")

# rich assumes 80 columns for files and pipes; the tables are wider.
console = Console(width=None if sys.stdout.isatty() else 120)

Images = Literal["sample", "all"]
"""Which images a command reads and decodes before anything else: some of each split, or all of them."""

StorageOption = Annotated[str, typer.Option(help="Folder or URI that contains the sweeps.")]
SweepArgument = Annotated[str, typer.Argument(help="A sweep, as folder, URI, or name under --storage.")]
TaskOption = Annotated[Path, typer.Option("--task", help="Task file, or a search space that contains the task.")]
ScheduleOption = Annotated[
    Path, typer.Option("--schedule", help="Schedule file (JSON or YAML), or a name that `explorer schedules` lists.")
]
BudgetOption = Annotated[
    str,
    typer.Option("--budget", help="Cost of the training: 25% or 0.25 (of full training), 3e17 FLOPs, 12 GPU-hours, or $40."),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option("--calibration", help="File written by `explorer calibrate`; required for budgets in time or money."),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        help="Processes, or GPUs, that divide each batch, by Ray Train; default: as many as --task has in resources.",
        min=1,
    ),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="With several processes: Ray cluster (auto); default: this machine.")
]
PriceOption = Annotated[float | None, typer.Option("--price", help="Price of a device-hour; required for budgets in money.")]


def with_expanded_paths(command: Callable[P, None]) -> Callable[P, None]:
    """A command that gets its paths with `~` and environment variables replaced, as shells do only in some places."""

    @functools.wraps(command)
    def expanding(*arguments: P.args, **options: P.kwargs) -> None:
        for name, value in options.items():
            if isinstance(value, Path):
                options[name] = Path(expanded(value, name))
        command(*arguments, **options)

    return expanding


def warn(*texts: str | None) -> None:
    """Print warnings on stderr; `None` prints nothing."""
    for text in filter(None, texts):
        print(f"explorer: warning: {text}", file=sys.stderr)


def check_processes(processes: int | None, task: Path) -> tuple[int, bool]:
    """Number of processes that train together, and whether Ray has to start them: torchrun has started its own.

    Args:
        processes: as given on the command line; `None` for as many as the resources of the task file say.
        task: the task file.

    Raises:
        InvalidInput: when there are both.
    """
    from explorer.training.distributed import torchrun_processes

    launched = torchrun_processes()
    if processes is not None and processes > 1 and launched > 1:
        raise InvalidInput("processes", processes, "must be left out under torchrun, which sets it")
    if launched > 1:
        return launched, False
    count = processes or TaskFile.load_task(task).resources.process_count
    return count, count > 1


def print_inventory(inventory: Inventory) -> None:
    """Print what is in a data set in a few lines, and what a user should know of it as warnings on stderr."""
    for line in inventory.summary:
        print_line(console, line)
    for line in inventory.warnings:
        warn(line)


def print_imports(file: TaskFile) -> None:
    """Say, before anything of a task file is used, which modules it imports; under torchrun, the main process alone does so."""
    line = imports_line(file, "this search space" if isinstance(file, SearchSpace) else "this task file")
    if line and os.environ.get("RANK", "0") == "0":
        print_line(console, line)


def check_and_print(spec: DataSpec, images: Images) -> CheckedData:
    """Read the images of a data set, and print what is in it. Under torchrun the main process alone does so.

    Raises:
        InvalidInput: see `check_data`.
    """
    from explorer.data.check import SAMPLED_IMAGES, CheckedData, check_data
    from explorer.data.registry import open_data

    is_main = os.environ.get("RANK", "0") == "0"
    if not is_main and spec.unreadable == "error":  # where the main process refuses the data, torchrun ends this one
        return CheckedData(spec, open_data(spec).inventory)
    sample = SAMPLED_IMAGES if images == "sample" else None
    checked = check_data(spec, sample=sample, console=console if is_main else None, anew=False)
    if is_main:
        print_inventory(checked.inventory)
    return checked


def load_task(path: Path, schedule: Schedule | None) -> tuple[Task, TaskFile]:
    """Load a task, with the settings that the schedule was measured with, and set torch's number of threads for it.

    Args:
        path: a task file or a search space.
        schedule: the schedule; settings that it was made for or measured with replace those of the task.

    Returns:
        The task, and its file.

    Raises:
        InvalidInput: when the file, the model or the data cannot be used.
    """
    import torch

    from explorer.training.task import Task

    file = TaskFile.load_task(path)
    print_imports(file)
    spec = file.task.with_schedule(schedule) if schedule else file.task
    task = Task(spec)
    task.check()
    torch.set_num_threads(file.resources.cpus)
    return task, file


def with_checked_images(task: Task, images: Images) -> tuple[Task, Inventory]:
    """Read and decode images of a task's data set, print what is in it, and warn of what the task does with it.

    Returns:
        The task, without images that cannot be read if they are to be skipped; and what is in its data set.

    Raises:
        InvalidInput: when the data cannot be used.
    """
    checked = check_and_print(task.spec.data, images)
    if checked.spec != task.spec.data:
        task = type(task)(task.spec.model_copy(update={"data": checked.spec}))
    warn(*task.warnings)
    return task, checked.inventory


def load_named_schedule(name: Path, task: Path) -> Schedule:
    """The schedule of a file, or a known one by name, for the model of a task file.

    Raises:
        InvalidInput: when there is no such schedule, or one of the files cannot be used.
    """
    return load_schedule(name, TaskFile.load_task(task).task.model.name)
