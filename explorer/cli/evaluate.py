"""The command `evaluate`: what is measured of a trained model on test images, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli.shared import check_and_print, console, print_imports
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.spec.task_file import TaskFile

if TYPE_CHECKING:
    from explorer.spec.data import DataSpec
    from explorer.spec.task import TaskSpec


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of a trained model, such as runs/production/model.")],
    data: Annotated[
        str | None,
        typer.Option(help="digits, a folder of images, or NAME:FOLDER such as torch/cifar10:/data.", metavar="DATA"),
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option("--task", help="Task file, or a search space, whose data and metric to take instead of --data."),
    ] = None,
) -> None:
    """Repeat what was measured of a trained model on test images; the folder has its weights, classes and preprocessing."""
    if (data is None) == (task is None):
        raise InvalidInput("data", data, "give either --data or --task")
    from explorer.production.model_folder import ModelFolder
    from explorer.production.repeated_evaluation import data_for, repeat_evaluation

    opened = ModelFolder(folder)
    given = _named(task) if task else None
    spec = data_for(opened, given.data if given else _inspected(data or ""))
    checked = check_and_print(spec, "all" if spec.unreadable == "skip" else "sample")
    print_line(console, "\n".join(repeat_evaluation(opened, checked.spec, given.objective if given else None).lines))


def _named(task: Path) -> TaskSpec:
    """The task of a task file."""
    file = TaskFile.load_task(task)
    print_imports(file)
    return file.task


def _inspected(data: str) -> DataSpec:
    """The data set that `--data` names, with the splits that `explorer init` finds."""
    from explorer.cli.data_inspection import inspect_data
    from explorer.spec.data import DataSpec

    files = inspect_data(data)
    return DataSpec(
        name=files.name,
        root=files.root,
        train_split=files.train_split,
        validation_split=files.validation_split,
        test_split=files.test_split,
    )
