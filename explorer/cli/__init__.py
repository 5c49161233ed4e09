"""The command line. Bad input ends in one line and exit code 2; torch and ray are imported only by commands that need them."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from explorer.cli import cache, data, evaluate, init, models, plan, schedules, status, sweeps, train
from explorer.cli.shared import with_expanded_paths
from explorer.cli.signals import ends_on_signals
from explorer.errors import InvalidInput, UnreadableImageError

SWEEPS = "Sweep: find schedules"
TRAINING = "Train: use a schedule"
LOOK_UP = "Look up"

app = typer.Typer(
    help="How accurate can this vision transformer get for this much training, and by which schedule?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = {
    SWEEPS: (init.init, data.data, cache.cache, sweeps.sweep, status.status, sweeps.report, sweeps.best),
    TRAINING: (plan.plan, plan.calibrate, train.train, evaluate.evaluate),
    LOOK_UP: (models.models, schedules.schedules),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(ends_on_signals(with_expanded_paths(command)))


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            print(version("vit-budget-explorer"))
        except PackageNotFoundError:
            print("unknown: vit-budget-explorer is not installed")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[  # read by its callback, before any command
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; `InvalidInput` becomes one line and exit code 2, an image that cannot be read one line and 1."""
    try:
        app()
    except InvalidInput as error:
        print(f"explorer: {error}", file=sys.stderr)
        sys.exit(2)
    except UnreadableImageError as error:  # it was readable when the data were checked
        print(f"explorer: {error}", file=sys.stderr)
        sys.exit(1)
