"""What several commands share: the console, options, the task of a space."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from explorer.spec.rates import shown_axes
from explorer.spec.schedule import Schedule
from explorer.spec.task_file import TaskFile

if TYPE_CHECKING:
    from explorer.training.task import Task

# Files and pipes have no width of their own: tables need more than the 80 columns assumed for them.
console = Console(width=None if sys.stdout.isatty() else 120)

StorageOption = Annotated[str, typer.Option(help="Folder or URI under which sweeps stand.")]
SweepArgument = Annotated[str, typer.Argument(help="A sweep's folder, URI, or name under --storage.")]
TaskOption = Annotated[Path, typer.Option("--task", help="Task file, or a search space, whose task is trained.")]
ScheduleOption = Annotated[Path, typer.Option("--schedule", help="Schedule file (JSON or YAML).")]
BudgetOption = Annotated[str, typer.Option("--budget", help="25%, 0.25 (of full training), 3e17 FLOPs, 12 GPU-hours or $40.")]
CalibrationOption = Annotated[
    Path | None, typer.Option("--calibration", help="What `explorer calibrate` wrote: for budgets in time or money.")
]
PriceOption = Annotated[float | None, typer.Option("--price", help="Price of a device-hour: for budgets in money.")]


def warn(text: str | None) -> None:
    """Print a warning on stderr; nothing where there is none."""
    if text:
        print(f"explorer: warning: {text}", file=sys.stderr)


def load_task(path: Path, schedule: Schedule | None) -> tuple[Task, TaskFile]:
    """The task of a file, with the settings that the schedule was measured with; sets as many threads as a training has."""
    import torch

    from explorer.training.task import Task

    file = TaskFile.load_task(path)
    task = Task(file.task.measured_as(schedule.provenance if schedule else None))
    task.check()
    warn(task.warning)
    torch.set_num_threads(file.resources.cpus)
    return task, file


def print_stages(schedule: Schedule) -> None:
    """A schedule as a table, and the settings it was measured with."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(stage.rates for stage in schedule.stages)
    for name in ("stage", *axes, "share of the budget"):
        table.add_column(name, justify="right")
    for number, stage in enumerate(schedule.stages, start=1):
        rates = (f"{getattr(stage.rates, axis):.3g}" for axis in axes)
        table.add_row(str(number), *rates, f"{stage.duration_ratio:.1%}")
    console.print(table)
    if schedule.provenance:
        settings = f"learning rate {schedule.provenance.learning_rate:.4g}, batch {schedule.provenance.batch_size}"
        console.print(f"trained with {settings}, seed {schedule.provenance.seed}", highlight=False)
