"""Targets from the columns of a table: names of classes, zeros and ones, or numbers.

Shapes: N rows, K classes or values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.data.labels import some
from explorer.data.natural_order import natural_key
from explorer.errors import InvalidInput
from explorer.spec.data import TargetKind

WITHOUT_CLASS = "images without any class"
TRUE_OR_FALSE = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
"""What cells of zeros and ones may hold, in any case."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The cells of a split's targets."""

    cells: Mapping[str, Sequence[Any]]
    """The N cells of each column by its name. Missing ones are `None`, NaN or empty text."""
    kind: TargetKind
    separator: str | None
    """What is between the classes in a cell; `None` for cells that hold zeros and ones, or lists."""
    field: str
    """Name of the setting that holds the split, for messages."""
    split: str | None
    row_name: Callable[[int], str]
    """How messages call a row."""

    def refuse(self, row: int, column: str, reason: str, count: int = 1) -> InvalidInput:
        """The error that names the first wrong cell and their number."""
        more = f" (one of {count:,})" if count > 1 else ""
        cell = self.cells[column][row]
        return InvalidInput(self.field, self.split, f"{self.row_name(row)}{more} has {cell!r} as {column}; {reason}")


@dataclass(frozen=True, kw_only=True)
class ReadTargets:
    """The targets of a split."""

    targets: list[Any]
    """The number of a class, or a row of K numbers, for each image."""
    names: tuple[str, ...]
    """Names of the classes in the order of their labels, or of the values."""
    remarks: dict[str, int]
    """See `SplitInventory.remarks`."""


def read_columns(columns: Columns, names: Sequence[str] | None) -> ReadTargets:
    """The targets of a split.

    Args:
        columns: the cells.
        names: names of the classes of the training images; `None` for the training images: those that occur, in natural order.

    Raises:
        InvalidInput: when a cell is empty, is not what its kind allows, or names a class that no training image has.
    """
    if columns.kind == "class":
        return _classes(columns, names)
    is_list = any(isinstance(cell, list | tuple | np.ndarray) for cell in next(iter(columns.cells.values())))
    if columns.kind == "labels" and (columns.separator is not None or is_list):
        return _sets(columns, names)
    return _numbers(columns)


def _only_column(columns: Columns) -> str:
    if len(columns.cells) > 1:
        shown = ", ".join(columns.cells)
        kinds = "labels (each 0 or 1, without a separator) or values"
        raise InvalidInput("data.options.target_key", shown, f"must be one column here; several are for target_kind: {kinds}")
    return next(iter(columns.cells))


def _classes(columns: Columns, names: Sequence[str] | None) -> ReadTargets:
    column = _only_column(columns)
    cells = [_text(cell) for cell in columns.cells[column]]
    if empty := [row for row, text in enumerate(cells) if not text]:
        raise columns.refuse(empty[0], column, "every image must have a class", len(empty))
    own = _in_order(cells)
    _check_known(columns, own, names)
    chosen = tuple(own if names is None else names)
    numbers = {name: number for number, name in enumerate(chosen)}
    return ReadTargets(targets=[numbers[text] for text in cells], names=chosen, remarks={})


def _sets(columns: Columns, names: Sequence[str] | None) -> ReadTargets:
    column = _only_column(columns)
    cells = [_parts(cell, columns.separator) for cell in columns.cells[column]]
    own = _in_order(text for parts in cells for text in parts)
    _check_known(columns, own, names)
    chosen = tuple(own if names is None else names)
    if not chosen:
        raise InvalidInput(columns.field, columns.split, f"has no class in any cell of {column}")
    numbers = {name: number for number, name in enumerate(chosen)}
    rows = np.zeros((len(cells), len(chosen)), np.float32)
    for row, parts in zip(rows, cells, strict=True):
        row[[numbers[text] for text in parts]] = 1
    without = sum(not parts for parts in cells)
    return ReadTargets(targets=list(rows), names=chosen, remarks={WITHOUT_CLASS: without} if without else {})


def _numbers(columns: Columns) -> ReadTargets:
    is_label = columns.kind == "labels"
    rows = np.empty((len(next(iter(columns.cells.values()))), len(columns.cells)), np.float32)
    for place, (column, cells) in enumerate(columns.cells.items()):
        numbers = [TRUE_OR_FALSE.get(_text(cell).lower()) if is_label else _number(cell) for cell in cells]
        if wrong := [row for row, number in enumerate(numbers) if number is None]:
            reason = (
                "must be 0 or 1 (several classes in a cell need data.options.separator)" if is_label else "must be a number"
            )
            raise columns.refuse(wrong[0], column, reason, len(wrong))
        rows[:, place] = numbers
    without = int((~rows.any(1)).sum()) if is_label else 0
    remarks = {WITHOUT_CLASS: without} if without else {}
    return ReadTargets(targets=list(rows), names=tuple(columns.cells), remarks=remarks)


def _text(cell: Any) -> str:
    """A cell as text without spaces around it; empty if there is none."""
    if cell is None or type(cell).__name__ == "NAType" or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # tables have floats in columns of integers with gaps
    return str(cell).strip()


def _parts(cell: Any, separator: str | None) -> list[str]:
    if isinstance(cell, list | tuple | np.ndarray):
        return [text for text in map(_text, cell) if text]
    text = _text(cell)
    return [part.strip() for part in (text.split(separator) if separator else [text]) if part.strip()]


def _number(cell: Any) -> float | None:
    text = _text(cell)
    if "_" in text:  # which Python reads as a number: 1_000
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(np.float32(number)) else None


def _in_order(texts: Any) -> list[str]:
    return sorted(set(texts), key=lambda text: (natural_key(text), text))


def _check_known(columns: Columns, own: Sequence[str], names: Sequence[str] | None) -> None:
    if names is not None and (unknown := [name for name in own if name not in names]):
        raise InvalidInput(columns.field, columns.split, f"has classes that no training image has: {some(unknown)}")
