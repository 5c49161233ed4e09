"""Tables whose keys are classes: a row is valid for a class and those derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Row = TypeVar("Row")


def row_of(table: Mapping[type, Row], instance: object) -> Row | None:
    """The row of the nearest class of an object; `None` if neither its class nor one of its bases has a row."""
    return next((table[kind] for kind in type(instance).__mro__ if kind in table), None)
