"""What several commands share: the console, options, and how a task is loaded."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer
from rich.console import Console
from rich.table import Table

from explorer.paths import expanded
from explorer.spec.rates import shown_axes
from explorer.spec.schedule import Schedule
from explorer.spec.task_file import TaskFile

if TYPE_CHECKING:
    from explorer.training.task import Task

P = ParamSpec("P")

# rich assumes 80 columns for files and pipes; the tables are wider.
console = Console(width=None if sys.stdout.isatty() else 120)

StorageOption = Annotated[str, typer.Option(help="Folder or URI that contains the sweeps.")]
SweepArgument = Annotated[str, typer.Argument(help="A sweep, as folder, URI, or name under --storage.")]
TaskOption = Annotated[Path, typer.Option("--task", help="Task file, or a search space that contains the task.")]
ScheduleOption = Annotated[Path, typer.Option("--schedule", help="Schedule file (JSON or YAML).")]
BudgetOption = Annotated[
    str,
    typer.Option("--budget", help="Cost of the training: 25% or 0.25 (of full training), 3e17 FLOPs, 12 GPU-hours, or $40."),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option("--calibration", help="File written by `explorer calibrate`; required for budgets in time or money."),
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


def load_task(path: Path, schedule: Schedule | None) -> tuple[Task, TaskFile]:
    """Load a task, with the settings that the schedule was measured with, and set torch's number of threads for it.

    Raises:
        InvalidInput: when the file, the model or the data cannot be used.
    """
    import torch

    from explorer.training.task import Task

    file = TaskFile.load_task(path)
    task = Task(file.task.measured_as(schedule.provenance if schedule else None))
    task.check()
    warn(*task.warnings)
    torch.set_num_threads(file.resources.cpus)
    return task, file


def print_stages(schedule: Schedule) -> None:
    """Print a schedule as a table, and the settings it was measured with."""
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
