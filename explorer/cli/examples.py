"""The search spaces that ship with the package."""

from __future__ import annotations

from pathlib import Path

import explorer
from explorer.errors import InvalidInput

FOLDER = Path(explorer.__file__).parent / "search_spaces"
"""In a clone a link to the folder of this name at the top level; wheels contain the files."""


def example_names() -> list[str]:
    """Names of the examples, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def example_text(name: str) -> str:
    """The text of one example, comments included.

    Raises:
        InvalidInput: when there is no example of this name.
    """
    if name not in example_names():
        raise InvalidInput("example", name, f"must be one of {', '.join(example_names())}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
