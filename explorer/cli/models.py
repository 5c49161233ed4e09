"""The command `models`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from explorer.cli.shared import console
from explorer.spec.rates import AXES

if TYPE_CHECKING:
    from explorer.elastic.coverage import Coverage


def models(
    pattern: Annotated[str, typer.Argument(help="Names, as timm.list_models matches them: 'deit*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Families by axes, in Markdown; costs are not counted.")] = False,
) -> None:
    """List timm's transformers: the axes they can be reduced on, and what a training step then costs."""
    from explorer.elastic import coverage

    names = coverage.transformer_names(pattern)
    rows = coverage.coverages(names, count=not summary)
    if not (as_json or summary):
        _print_models(rows, names)
        return
    progress = Console(stderr=True)
    done = list(track(rows, "models", total=len(names), console=progress, transient=True, disable=not progress.is_terminal))
    print(json.dumps([row.as_dict() for row in done], indent=2) if as_json else "\n".join(coverage.summary(done)))


def _print_models(rows: Iterable[Coverage], names: list[str]) -> None:
    """One line a model as soon as it is known: counting takes seconds for each."""
    widths = (max(map(len, names)), 22, 5, 9, 7, 6, 6, 11, 11, 8)
    titles = ("model", "axes", "heads", "mlp", "tokens", "depth", "policy", "full GFLOPs", "half GFLOPs", "fraction")

    def show(*cells: str, style: str | None = None) -> None:
        aligned = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
        ]
        console.print("  ".join(aligned).rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)

    console.print(
        "smallest rate on each axis; GFLOPs of a training step an image, at full and at .5 on every axis but depth",
        highlight=False,
    )
    show(*titles, style="bold")
    resizable = 0
    for row in rows:
        if row.reason:
            console.print(
                f"{row.name.ljust(widths[0])}  cannot be resized: {row.reason}", markup=False, highlight=False, soft_wrap=True
            )
            continue
        resizable += 1
        smallest = [_rate(getattr(row.smallest, axis)) if axis in row.axes else "-" for axis in AXES]
        flops = [f"{(value or 0) / 1e9:.4g}" for value in (row.full_flops, row.half_flops)]
        show(row.name, " ".join(row.axes), *smallest, row.tokens, *flops, f"{row.half_fraction or 0:.2f}")
    console.print(f"{resizable} of {len(names)} can be resized", highlight=False)


def _rate(value: float) -> str:
    """1/6 where that is what it is, else .364."""
    whole = Fraction(value).limit_denominator(100_000)
    return str(whole) if whole.numerator == 1 else f"{value:.3g}"
