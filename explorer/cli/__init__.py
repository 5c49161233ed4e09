"""The command line. Bad input ends in one line and exit code 2; torch and ray are imported where they are needed."""

from __future__ import annotations

import sys

import typer

from explorer.cli import init, models, production, sweeps
from explorer.errors import InvalidInput

app = typer.Typer(
    help="How accurate can this vision transformer get for this much training, and by which schedule?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(init.init)
app.command()(sweeps.sweep)
app.command()(sweeps.report)
app.command()(sweeps.best)
app.command()(production.plan)
app.command()(production.calibrate)
app.command()(production.train)
app.command()(models.models)


def main() -> None:
    """Entry point: `InvalidInput` becomes one line and exit code 2."""
    try:
        app()
    except InvalidInput as error:
        print(f"explorer: {error}", file=sys.stderr)
        sys.exit(2)
