"""The command `cache`: decode the images of a data set once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.shared import console, print_imports
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.spec.task_file import TaskFile


def cache(
    space: Annotated[Path, typer.Argument(help="Search space or task file (YAML).")],
    replace: Annotated[bool, typer.Option("--replace", help="Write the file anew, whatever is there.")] = False,
) -> None:
    """Decode the images of a data set once, into a file that training reads; resume where it was stopped, verify what is there.

    The settings `data.cache` and `data.resident` say whether training reads the file; without `data.cache`, images keep their
    size.
    """
    from explorer.data.check import check_data
    from explorer.data.decoded_cache import DecodedCache, gigabytes
    from explorer.data.registry import open_data
    from explorer.data.streamed import StreamedData

    file = TaskFile.load_task(space)
    print_imports(file)
    given = file.task.data.model_copy(update={"train_fraction": 1.0})  # subsets read the same file
    spec = check_data(given, console=console, anew=False).spec
    source = open_data(spec)
    if not isinstance(source, StreamedData) or source.has_tensors:
        raise InvalidInput("data.name", spec.name, "has no image files to decode")
    decoded = DecodedCache(spec, source.splits)
    if replace:
        decoded.remove()
    was_complete = decoded.is_complete
    written = decoded.open_or_write(console)
    if was_complete:
        print_line(console, f"verifying {len(written):,} images in {decoded.folder}")
        written.verify(range(len(written)))
    print_line(console, f"{len(written):,} decoded images, {gigabytes(written.pixels.size)}, in {decoded.folder}")
    if spec.cache is None:
        print_line(console, "training reads them with data.cache: {} or data.resident: cpu in the task")
