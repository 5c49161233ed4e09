"""Several sweeps in one page: two models, two recipes, two releases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from explorer.differences import flattened
from explorer.errors import InvalidInput
from explorer.ledger import Ledger
from explorer.report import sweep_facts
from explorer.report.frontier_panel import TraceStyle, frontier_figure
from explorer.report.loaded_sweep import LoadedSweep
from explorer.report.palette import SWEEPS
from explorer.report.payload import Watch, figure_json, publish, render
from explorer.report.units import units

MOST_DIFFERENCES = 12


def write_comparison(
    ledgers: Sequence[Ledger], out: str | Path, *, price: float | None = None, watch: int | None = None
) -> Path:
    """Write `index.html` with the frontiers of several sweeps over one another.

    Args:
        ledgers: of the sweeps, two to six.
        out: a folder; made when it is missing.
        price: of a device-hour; the page then offers money as a unit.
        watch: seconds between two looks of the page whether it was written anew; None: it stays as it is.

    Raises:
        InvalidInput: for more sweeps than there are colours, a sweep without a finished trial, or when `out` cannot be written.
    """
    if len(ledgers) > len(SWEEPS):
        raise InvalidInput("sweeps", len(ledgers), f"at most {len(SWEEPS)} can be told apart in one page")
    watching = Watch(watch) if watch else None
    content = comparison_page([LoadedSweep.read(ledger) for ledger in ledgers], price=price, watch=watching)
    path = Path(out) / "index.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return publish(path, content, watching.stamp if watching else "")
    except OSError as error:
        raise InvalidInput("out", str(out), f"cannot be written: {error}") from None


def comparison_page(sweeps: Sequence[LoadedSweep], *, price: float | None = None, watch: Watch | None = None) -> str:
    """The page, as HTML."""
    names = _names(sweeps)
    cost_units = units(pd.concat([sweep.data.curves for sweep in sweeps]), price, several=True)
    full_flops = {int(sweep.data.runs.full_flops.iloc[0]) for sweep in sweeps}
    if len(full_flops) > 1:  # a share of each one's own full training is no common measure
        cost_units = [*cost_units[1:2], *cost_units[:1], *cost_units[2:]]
    looks = [TraceStyle(colour, colour, f"{name}: ") for colour, name in zip(SWEEPS, names, strict=False)]
    figure = frontier_figure([(sweep.data, look) for sweep, look in zip(sweeps, looks, strict=True)], cost_units)
    differences = _differences(sweeps)
    named = list(zip(names, sweeps, strict=True))
    rows = [{"sweep": name, **row} for name, sweep in named for row in sweep_facts.budget_rows(sweep.data)]
    payload = {
        "name": " and ".join(names),
        "units": [{"key": unit.key, "axis": unit.axis} for unit in cost_units],
        "figures": {"frontier": figure_json(figure)},
        "byBudget": {},
        "chooser": None,
    }
    return render(
        "compare.html",
        payload,
        watch,
        name=" and ".join(names),
        units=cost_units,
        models_differ=len(full_flops) > 1,
        rows=rows,
        sweeps=[
            sweep_facts.comparison(name, sweep.header, sweep.data, sweep.trials, said)
            for (name, sweep), said in zip(named, differences, strict=True)
        ],
    )


def _names(sweeps: Sequence[LoadedSweep]) -> list[str]:
    """The sweeps' names; equal ones are numbered."""
    names = [sweep.header.name for sweep in sweeps]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _differences(sweeps: Sequence[LoadedSweep]) -> list[str]:
    """What each sweep's space has where the spaces differ."""
    spaces = [flattened(sweep.header.space.model_dump(mode="json")) for sweep in sweeps]
    fields = list(dict.fromkeys(field for space in spaces for field in space if field != "name"))
    differing = [field for field in fields if len({str(space.get(field)) for space in spaces}) > 1]
    shown = [[f"{field} {space.get(field, 'default')}" for field in differing[:MOST_DIFFERENCES]] for space in spaces]
    more = f", and {len(differing) - MOST_DIFFERENCES} more" if len(differing) > MOST_DIFFERENCES else ""
    return [", ".join(said) + more if said else "nothing" for said in shown]
