"""The command `models`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from explorer.cli.shared import console
from explorer.console import print_line
from explorer.elastic.coverage_table import Coverage, installed_timm_version, no_match, read_table, summary
from explorer.errors import InvalidInput
from explorer.references import import_user_module
from explorer.spec.rates import AXES


def models(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Names, as timm.list_models matches them: 'deit*'. For models that a module of yours registers: "
            "'package.module:name'."
        ),
    ] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
    as_summary: Annotated[bool, typer.Option("--summary", help="Print the number of models by axes, in Markdown.")] = False,
) -> None:
    """List timm's transformers with the axes on which each can be reduced and the cost of a training step."""
    if as_json and as_summary:
        raise InvalidInput("--json", "--summary", "cannot be combined: leave one of the two out")
    rows = _rows(pattern, count=not as_summary)
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
    elif as_summary:
        print("\n".join(summary(rows)))
    else:
        _print_table(rows)


def _rows(pattern: str, count: bool) -> list[Coverage]:
    """Rows from the table that ships with the package; models that are not in it are counted now."""
    module, _, name = pattern.rpartition(":")
    version = installed_timm_version()
    if module:
        return _count(_registered(module, name), f"{pattern} is not in the table of timm's models", count)
    table = read_table(version)
    if table is None:
        from explorer.elastic.coverage import transformer_names

        return _count(transformer_names(pattern), f"there is no table for timm {version} in this release", count)
    rows = table.matching(pattern)
    others = _registered_before(pattern)
    if not rows and not others:
        raise no_match(pattern, version, [row.name for row in table.rows])
    return rows + (_count(others, "they are not in the table of timm's models", count) if others else [])


def _registered(module: str, pattern: str) -> list[str]:
    """Names that match a pattern and are registered outside timm, after importing a module."""
    import_user_module(module, "models", f"{module}:{pattern}")
    names = _registered_before(pattern)
    if not names:
        raise InvalidInput("models", f"{module}:{pattern}", f"{module} registers no such model in timm")
    return names


def _registered_before(pattern: str) -> list[str]:
    """Names registered outside timm in this process; without timm imported there are none."""
    if sys.modules.get("timm") is None:
        return []
    from explorer.elastic.coverage import registered_outside_timm

    return registered_outside_timm(pattern)


def _count(names: Sequence[str], why: str, count: bool) -> list[Coverage]:
    """Count models on this machine, with progress on stderr."""
    from explorer.elastic.coverage import coverages

    number = "1 model" if len(names) == 1 else f"{len(names)} models"
    print(f"explorer: counting {number} on this machine: {why}", file=sys.stderr)
    progress = Console(stderr=True)
    rows = coverages(names, count)
    return list(track(rows, "counting", total=len(names), console=progress, transient=True, disable=not progress.is_terminal))


def _print_table(rows: Sequence[Coverage]) -> None:
    name_width = max(len(row.name) for row in rows)
    widths = (name_width, 22, 5, 9, 7, 6, 12, 11, 11, 8)
    titles = ("model", "axes", "heads", "mlp", "tokens", "depth", "policies", "full GFLOPs", "half GFLOPs", "fraction")

    def print_row(cells: Iterable[str], style: str | None = None) -> None:
        aligned = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        print_line(console, "  ".join(aligned).rstrip(), style)

    explanation = "The smallest rate on each axis; GFLOPs of a training step per image, full, and at .5 on all but depth."
    print_line(console, explanation)
    print_row(titles, style="bold")
    for row in rows:
        if row.reason:
            print_line(console, f"{row.name.ljust(name_width)}  cannot be resized: {row.reason}")
            continue
        smallest = [_rate_text(getattr(row.smallest_rates, axis)) if axis in row.axes else "-" for axis in AXES]
        flops = [f"{(value or 0) / 1e9:.4g}" for value in (row.full_flops, row.half_flops)]
        policies = ", ".join(row.token_policies) or "-"
        print_row((row.name, " ".join(row.axes), *smallest, policies, *flops, f"{row.half_fraction or 0:.2f}"))
    print_line(console, f"{sum(row.reason is None for row in rows)} of {len(rows)} can be resized")


def _rate_text(value: float) -> str:
    """A unit fraction as such, `1/6`; other rates as decimals, `.364`."""
    fraction = Fraction(value).limit_denominator(100_000)
    return str(fraction) if fraction.numerator == 1 else f"{value:.3g}"
