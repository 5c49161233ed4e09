"""A table of images and their targets: a CSV or Parquet file with a row for each image."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from explorer.data.image_files import ImageFiles
from explorer.data.root import require_root
from explorer.data.streamed import StreamedData
from explorer.data.target_columns import Columns, read_columns
from explorer.errors import InvalidInput, validated
from explorer.paths import expanded
from explorer.spec.base import Settings
from explorer.spec.data import DataSpec, TargetKind

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "{split}"
"""What stands for the name of a split in the name of a file."""
OTHER_SPLITS = "rows of other splits, which are not read"
ROLES = ("train", "validation", "test")


class TableOptions(Settings):
    """`data.options` of a table."""

    file: str
    """CSV (`.csv`, `.tsv`) or Parquet (`.parquet`) file, relative to `data.root`. `{split}` in it stands for the name of a
    split, where each split has a file of its own."""
    input_key: str = "image"
    """Column of the paths of the images, relative to `data.root`."""
    target_key: str | tuple[str, ...] = "label"
    """Column of the targets, or several columns."""
    target_kind: TargetKind = "class"
    """What the targets are: one `class` by its name; `labels`, any number of classes; or `values`, numbers."""
    separator: str | None = Field(None, min_length=1)
    """For `labels` in one column: what is between the names of the classes in a cell. `None`: each column is a class, and its
    cells are 0 or 1."""
    split_key: str | None = None
    """Column that says to which split a row belongs: the value of `data.train_split` or of the others."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """What is between the columns of a `.csv` file."""

    @property
    def target_keys(self) -> tuple[str, ...]:
        """The columns of the targets."""
        return (self.target_key,) if isinstance(self.target_key, str) else self.target_key


def open_table(spec: DataSpec) -> StreamedData:
    """Open a table of images.

    Raises:
        InvalidInput: when a file or a column is missing, a path is empty, outside the root or there twice, a target is empty or
            not what its kind allows, or a held-out split has a class that no training image has.
    """
    options = validated(TableOptions, spec.options, "data.options")
    if not options.target_keys:
        raise InvalidInput("data.options.target_key", [], "must name at least one column")
    root = require_root(spec)
    splits = {role: split for role in ROLES if (split := getattr(spec, f"{role}_split")) is not None}
    if options.split_key is None and SPLIT not in options.file and len(splits) > 1:
        role = next(role for role in splits if role != "train")
        reason = f"{options.file} has all rows: name the column of splits as data.options.split_key, write {SPLIT} in "
        reason += "data.options.file, or set the split to null, which sets a tenth of the images aside"
        raise InvalidInput(f"data.{role}_split", splits[role], reason)
    images: dict[str, TableImages] = {}
    for role, split in splits.items():
        images[role] = TableImages(root, options, split, f"data.{role}_split", images.get("train"))
    if options.split_key is not None:
        images["train"].count_other_rows(set(splits.values()))
    return StreamedData(spec, images["train"], images.get("test"), images.get("validation"))


class TableImages(ImageFiles):
    """The images of a split.

    Args:
        root: folder that paths are relative to.
        options: which file and columns.
        split: name of the split.
        field: name of the setting that holds it, for messages.
        train: the training images, of a held-out split.

    Raises:
        InvalidInput: see `open_table`.
    """

    def __init__(self, root: Path, options: TableOptions, split: str, field: str, train: TableImages | None = None) -> None:
        file = options.file.replace(SPLIT, split)
        table = _read(root / expanded(file, "data.options.file"), options)
        for option, named in (
            ("input_key", (options.input_key,)),
            ("target_key", options.target_keys),
            ("split_key", (options.split_key,) if options.split_key else ()),
        ):
            if missing := [column for column in named if column not in table]:
                reason = f"{file} has the columns {', '.join(map(str, table.columns))}"
                raise InvalidInput(f"data.options.{option}", missing[0], reason)
        self._split_values: list[str] = []
        numbers = list(range(len(table)))
        if options.split_key is not None:
            self._split_values = [str(value).strip() for value in table[options.split_key]]
            numbers = [number for number in numbers if self._split_values[number] == split]
        if not numbers:
            of_split = f" with {split!r} as {options.split_key}" if options.split_key else ""
            raise InvalidInput(field, split, f"{file} has no rows{of_split}")
        rows = [number + 1 for number in numbers]
        names = _checked_paths(table[options.input_key].tolist(), numbers, options.input_key, field, split)
        columns = Columns(
            cells={column: _taken(table[column].tolist(), numbers) for column in options.target_keys},
            kind=options.target_kind,
            separator=options.separator,
            field=field,
            split=split,
            row_name=lambda number: f"row {rows[number]} of {file}",
        )
        read = read_columns(columns, train.classes if train else None)
        self.classes: tuple[str, ...] = read.names
        """Names of the classes in the order of their labels, or of the values."""
        super().__init__((os.path.join(root, name) for name in names), names, read.targets)
        self.target_kind: TargetKind = options.target_kind
        """What the targets are."""
        self.remarks = read.remarks
        """Number of images that a user may not expect, by reason."""

    def count_other_rows(self, splits: set[str]) -> None:
        """Count the rows that are in none of some splits."""
        if count := sum(value not in splits for value in self._split_values):
            self.remarks = {**self.remarks, OTHER_SPLITS: count}


def _taken(cells: list[Any], numbers: list[int]) -> list[Any]:
    return [cells[number] for number in numbers]


def _read(path: Path, options: TableOptions) -> pd.DataFrame:
    """A table; the cells of CSV files are text as it is written."""
    import pandas as pd

    field = "data.options.file"
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix in (".csv", ".tsv"):
            settings: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig", "index_col": False}
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would be cut off
                settings["sep"] = "\t" if path.suffix == ".tsv" else options.delimiter
                header = pd.read_csv(path, header=None, nrows=1, **settings)
                _check_header(path, header.iloc[0].tolist(), options)
                return pd.read_csv(path, **settings)
    except InvalidInput:
        raise
    except ImportError:
        raise InvalidInput(field, str(path), "needs the package pyarrow: pip install 'vit-budget-explorer[parquet]'") from None
    except FileNotFoundError:
        raise InvalidInput(field, str(path), "there is no such file") from None
    except Exception as error:  # each reader fails in its own way
        raise InvalidInput(field, str(path), f"cannot be read: {error}") from None
    raise InvalidInput(field, str(path), "must end in .csv, .tsv or .parquet")


def _check_header(path: Path, header: list[str], options: TableOptions) -> None:
    """Check that no column that is read is there twice: pandas names the second one `label.1`."""
    for column in (options.input_key, *options.target_keys, *([options.split_key] if options.split_key else [])):
        if (count := header.count(column)) > 1:
            reason = f"has {count} columns named {column}; columns that are read must have names of their own"
            raise InvalidInput("data.options.file", str(path), reason)


def _checked_paths(cells: list[Any], numbers: list[int], column: str, field: str, split: str) -> list[str]:
    """The paths of some rows, relative to the root, in a form in which equal files have equal paths."""
    names: list[str] = []
    first_row: dict[str, int] = {}
    for number in numbers:
        given = cells[number]
        if not isinstance(given, str) or not given.strip():
            raise InvalidInput(field, split, f"row {number + 1} has no path ({column})")
        if "\0" in given:
            raise InvalidInput(field, split, f"row {number + 1} has the path {given!r}, with a zero byte in it")
        name = os.path.normpath(given.strip())
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
            raise InvalidInput(field, split, f"row {number + 1} has the path {given!r}, which leads outside data.root")
        if name in first_row:
            reason = f"rows {first_row[name]} and {number + 1} have the same path: {given}; an image has one row"
            raise InvalidInput(field, split, f"{reason} (several classes: target_kind: labels)")
        first_row[name] = number + 1
        names.append(name)
    return names
