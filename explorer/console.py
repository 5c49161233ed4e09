"""How lines are printed on a console: as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the GPU benchmarks run without rich
    from rich.console import Console


def print_line(console: Console, line: str, style: str | None = None) -> None:
    """Print text without highlighting, markup and wrapping, so that paths and patterns can be copied."""
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


def printable(text: object) -> str:
    """Text without control characters: files that somebody sent, and messages that quote them, may contain any."""
    return "".join(character if character.isprintable() else " " for character in str(text))
