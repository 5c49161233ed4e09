"""The command `schedules`: known-good schedules, and what the sweeps of a storage found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from explorer.cli.schedule_table import print_stages
from explorer.cli.shared import StorageOption, console, warn
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.files import refused_if_unwritable
from explorer.ledger import Ledger, find_sweep, sweeps_in
from explorer.spec.budget import Budget
from explorer.spec.model import ModelSpec
from explorer.spec.presets import PRESETS, Preset, preset
from explorer.spec.schedule import Schedule

if TYPE_CHECKING:
    from explorer.frontier.winners import FoundSchedule


def schedules(
    name: Annotated[
        str | None, typer.Argument(help="Show one of them, stage by stage: a name, or SWEEP:BUDGET for what a sweep found.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="timm model that it is for: some have other rates for pyramids.", metavar="NAME")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write it as a schedule file (JSON or YAML), to be changed.")] = None,
    storage: StorageOption = "sweeps",
) -> None:
    """List known-good schedules with their sources, and the best staged schedules that your sweeps found."""
    if name is None:
        if out is not None:
            raise InvalidInput("out", str(out), "needs the name of a schedule to write")
        if model is not None:
            raise InvalidInput("model", model, "needs the name of a schedule to show")
        for each in PRESETS.values():
            _print(each)
        _print_found(sweeps_in(storage), storage)
        return
    if model is not None:
        from explorer.training.architecture import check_model_name

        check_model_name(ModelSpec(name=model))
    schedule = _of_sweep(name, storage) if ":" in name else preset(name, model or "")
    if name in PRESETS:
        _print(PRESETS[name])
    print_stages(schedule)
    if out is not None:
        with refused_if_unwritable("out", out):
            print_line(console, f"saved {schedule.save(out)}")


def _of_sweep(name: str, storage: str) -> Schedule:
    """The schedule `SWEEP:BUDGET`, with its provenance. What it was measured with is printed."""
    from explorer.frontier.winners import found_schedules

    sweep, _, text = name.rpartition(":")
    budget = str(Budget.parse(text))
    ledger = find_sweep(sweep, storage)
    found = {each.budget: each for each in found_schedules(ledger.records(), ledger.header(), ledger.step_times())}
    if budget not in found:
        allowed = f"the sweep has staged schedules at {', '.join(found)}" if found else "the sweep has no finished staged trial"
        raise InvalidInput("schedule", name, allowed)
    print_line(console, f"{name}: {_measured(found[budget])}", style="bold")
    return found[budget].schedule


def _print(each: Preset) -> None:
    """Name, stages, source and measurement of a schedule."""
    print_line(console, each.name, style="bold")
    for title, text in (("what", each.summary), ("source", each.source), ("measured", each.measured)):
        print_line(console, f"  {title + ':':<10}{text}")


def _print_found(ledgers: Sequence[Ledger], storage: str) -> None:
    """What the sweeps of a storage found, one line for each budget; those that cannot be read are named."""
    from explorer.frontier.winners import found_schedules

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("found by your sweeps", "task", "on test images", "cost", "stages"):
        table.add_column(title, no_wrap=title != "stages")
    for ledger in ledgers:
        try:
            header = ledger.header()
            found = found_schedules(ledger.records(), header)
        except InvalidInput as error:
            warn(f"{ledger.location} is left out: {error}")
            continue
        warn(ledger.warning)
        folder = ledger.location.rpartition("/")[2]
        for each in found:
            task = f"{header.space.task.model.name} on {header.space.task.data.name}"
            if each.proxy is not None:
                task += f", proxy {each.proxy}"
            table.add_row(f"{folder}:{each.budget}", task, f"{each.metric} {each.result}", f"{each.cost:.3g}", each.stages)
    if table.row_count:
        console.print(table)
        print_line(console, "cost in full trainings; explorer schedules SWEEP:BUDGET --out FILE writes one")
    else:
        print_line(console, f"no sweep in {storage} has a finished staged trial yet")


def _measured(found: FoundSchedule) -> str:
    where = "" if found.proxy is None else f" on proxy {found.proxy}, without settings that do not transfer"
    return f"test {found.metric} {found.result} for {found.cost:.3g} full trainings{where}"
