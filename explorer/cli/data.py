"""The command `data`: what a task would be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from explorer.cli.shared import console, print_imports, print_inventory
from explorer.console import print_line
from explorer.files import atomic_writer, check_writable, refused_if_unwritable
from explorer.spec.search_space import SearchSpace
from explorer.spec.task_file import TaskFile

if TYPE_CHECKING:
    from explorer.spec.inventory import Inventory

SHOWN_UNREADABLE = 20
"""Images that were left out which are printed by name."""


def data(
    space: Annotated[Path, typer.Argument(help="Search space or task file (YAML).")],
    sheet: Annotated[
        Path | None,
        typer.Option(help="Picture (PNG) of training images as the model sees them; default: reports/<name>-images.png."),
    ] = None,
) -> None:
    """Read every image of a data set; print what is in it, and draw training images as the model sees them."""
    from explorer.data.check import check_data
    from explorer.data.contact_sheet import contact_sheet
    from explorer.training.task import Task

    file = TaskFile.load_task(space)
    print_imports(file)
    name = file.name if isinstance(file, SearchSpace) else space.stem
    path = sheet or Path("reports") / f"{name}-images.png"
    check_writable("sheet", path)
    checked = check_data(file.task.data, console=console, anew=False)
    task = Task(file.task.model_copy(update={"data": checked.spec}))
    inventory = checked.inventory
    print_inventory(inventory)
    console.print(_class_table(inventory))
    for role, split in inventory.splits.items():
        for kind, counts in (("modes", split.modes), ("sizes", split.sizes), ("files not read", split.passed_over)):
            if counts:
                _say(f"{role} {kind}: {', '.join(f'{value} {count:,}' for value, count in counts.items())}")
        for name in split.unreadable[:SHOWN_UNREADABLE]:
            _say(f"{role} left out: {name}")
    picture = contact_sheet(task.data, file.task.recipe.augmentation, inventory.class_names)
    with refused_if_unwritable("sheet", path), atomic_writer(path) as output:
        picture.save(output, format="PNG")
    _say(f"training images as the model sees them: {path}")


def _class_table(inventory: Inventory) -> Table:
    """Number of images of each class in each split; the range of each value where targets are values."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    is_value = inventory.target_kind == "values"
    table.add_column("value" if is_value else "label", justify="right")
    table.add_column("name" if is_value else "class")
    for role in inventory.splits:
        table.add_column(role, justify="right")
    for label, name in enumerate(inventory.class_names):
        cells = (str(split.values[label]) if is_value else f"{split.per_class[label]:,}" for split in inventory.splits.values())
        table.add_row(str(label), escape(name), *cells)
    return table


def _say(text: str) -> None:
    print_line(console, text)
