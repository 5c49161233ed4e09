"""The command `init`: a first search space, from an example or made for a model, a data set and a machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.examples import example_names, example_text
from explorer.cli.shared import console
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.files import refused_if_unwritable, write_file

DEFAULT_MODEL = "vit_tiny_patch16_224"
DEFAULT_EXAMPLE = "digits"


def init(
    model: Annotated[str | None, typer.Option(help=f"Name of a timm model; default: {DEFAULT_MODEL}.", metavar="NAME")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits (the default), fractals, a folder of images, or NAME:FOLDER such as torch/cifar10:/data.",
            metavar="DATA",
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(help="GPUs for all trials together, or the fraction of one that a trial uses; default: all.", min=0),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(help="CPU cores for each trial; default: those of this machine, divided by the GPUs.", min=1)
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(help=f"Copy a search space that ships with the package: {', '.join(example_names())}.", metavar="NAME"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the name of the sweep, with .yaml.")] = None,
) -> None:
    """Write a commented search space that is ready to run; without options, that of the digits example."""
    if example is not None and any(given is not None for given in (model, data, gpus, cpus)):
        raise InvalidInput("example", example, "cannot be combined with --model, --data, --gpus and --cpus; leave them out")
    if example is not None or all(given is None for given in (model, data, gpus, cpus)):
        example = DEFAULT_EXAMPLE if example is None else example
        text, path = example_text(example), out or Path(f"{example}.yaml")
        _refuse_existing(path)
    else:
        model, data = DEFAULT_MODEL if model is None else model, "digits" if data is None else data
        text, path = _made_for(model, data, gpus, cpus, out)
    with refused_if_unwritable("out", path):
        write_file(path, text)
    print_line(console, f"wrote {path}\nnext: explorer sweep {shlex.quote(str(path))} --dry-run")


def _made_for(model: str, data: str, gpus: float | None, cpus: int | None, out: Path | None) -> tuple[str, Path]:
    """The text of a search space for a model and a data set, and the file that it goes to."""
    if out is not None:
        _refuse_existing(out)
    if gpus is not None and gpus > 1 and not float(gpus).is_integer():
        raise InvalidInput("gpus", gpus, "must be a whole number, or a fraction of one GPU")

    import torch

    from explorer.cli.data_inspection import inspect_data
    from explorer.cli.model_inspection import inspect_model
    from explorer.cli.starter_space import machine_for, starter_name, starter_space

    local_gpus = torch.cuda.device_count()
    machine = machine_for(local_gpus if gpus is None else gpus, cpus, local_gpus)
    found = inspect_model(model, inspect_data(data))
    path = out or Path(f"{starter_name(found)}.yaml")
    _refuse_existing(path)
    print_line(
        console,
        f"{found.train_images:,} training images of {found.classes} classes at {found.image_size} pixels; "
        f"{model} can be reduced on {', '.join(found.axes)}",
    )
    if machine.doubt:
        print_line(console, f"resources.cpus: {machine.cpus} was {machine.doubt}, or give --cpus (data.num_workers follows it)")
    return starter_space(found, machine, starter_name(found)), path


def _refuse_existing(path: Path) -> None:
    with refused_if_unwritable("out", path):  # a name that is too long
        exists = path.exists()
    if exists:
        raise InvalidInput("out", str(path), "exists and is not overwritten; name another file with --out")
