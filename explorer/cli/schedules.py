"""The command `schedules`: known-good schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.schedule_table import print_stages
from explorer.cli.shared import console
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.spec.presets import PRESETS, Preset, preset


def schedules(
    name: Annotated[str | None, typer.Argument(help="Show one of them, stage by stage.")] = None,
    model: Annotated[str, typer.Option(help="timm model that it is for: some have other rates for pyramids.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it as a schedule file (JSON or YAML), to be changed.")] = None,
) -> None:
    """List known-good schedules with their sources, for --schedule of `plan` and `train` and for search.first of a sweep."""
    if name is None:
        if out is not None:
            raise InvalidInput("out", str(out), "needs the name of a schedule to write")
        for each in PRESETS.values():
            _print(each)
        return
    schedule = preset(name, model)
    _print(PRESETS[name])
    print_stages(schedule)
    if out is not None:
        try:
            print_line(console, f"saved {schedule.save(out)}")
        except OSError as error:
            raise InvalidInput("out", str(out), f"cannot be written: {error.strerror or error}") from None


def _print(each: Preset) -> None:
    """Name, stages, source and measurement of a schedule."""
    print_line(console, each.name, style="bold")
    for title, text in (("what", each.summary), ("source", each.source), ("measured", each.measured)):
        print_line(console, f"  {title + ':':<10}{text}")
