"""Hugging Face data sets: `hfds/cifar10`, a folder of files, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from explorer.data.streamed import StreamedData
from explorer.data.target_columns import Columns, ReadTargets, read_columns
from explorer.errors import InvalidInput, validated
from explorer.spec.base import Settings
from explorer.spec.data import DataSpec, TargetKind

PREFIX = "hfds/"
LABEL_NAME = "label"
"""Name of an integer column that holds labels without the names of classes, as in timm."""


class HuggingFaceOptions(Settings):
    """`data.options` of a Hugging Face data set."""

    input_key: str | None = None
    """Column of the images. `None` takes the only column of images."""
    target_key: str | tuple[str, ...] | None = None
    """Column of the targets, or several columns. `None`, for one class, takes the only column of class labels, or of integers
    named `label`."""
    target_kind: TargetKind = "class"
    """What the targets are: one `class`; `labels`, any number of classes, in a column of lists or in columns of zeros and ones;
    or `values`, numbers."""


def open_hugging_face(spec: DataSpec) -> StreamedData:
    """Open a Hugging Face data set by name or folder; `spec.root` is the folder of its cache.

    Raises:
        InvalidInput: when a split cannot be opened, or which columns are images and labels is not clear.
    """
    options = validated(HuggingFaceOptions, spec.options, "data.options")
    train = HuggingFaceImages(spec, options, spec.train_split, "data.train_split")

    def held_out(split: str | None, field: str) -> HuggingFaceImages | None:
        return None if split is None else HuggingFaceImages(spec, options, split, field, train)

    validation = held_out(spec.validation_split, "data.validation_split")
    return StreamedData(spec, train, held_out(spec.test_split, "data.test_split"), validation)


class HuggingFaceImages:
    """The images of a split.

    Args:
        spec: name of the data set, and folder of its cache.
        options: columns to read.
        split: as the package `datasets` writes it: `train`, `train[:90%]`.
        field: name of the setting that holds the split, for error messages.
        train: the training images, of a held-out split.

    Raises:
        InvalidInput: when the split cannot be opened, or which columns are images and labels is not clear.
    """

    def __init__(
        self,
        spec: DataSpec,
        options: HuggingFaceOptions,
        split: str,
        field: str,
        train: HuggingFaceImages | None = None,
    ) -> None:
        rows = _load(spec, split, field)
        features = rows.features or {}
        is_image = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
        self._image_column = _column(spec.name, "input_key", options.input_key, is_image, list(features))
        self.names = _row_names(rows, split)
        self.target_kind: TargetKind = options.target_kind
        """What the targets are."""
        self.classes: Sequence[str] | None
        """Names of the classes, or of the values; `None` if the labels are plain integers."""
        self.targets: list[Any]
        """Target of each image."""
        self.remarks: dict[str, int] = {}
        """Number of images that a user may not expect, by reason."""
        if options.target_kind == "class":
            self.classes, self.targets = _class_labels(spec.name, options, rows)
        else:
            read = _other_targets(spec.name, options, rows, field, split, self.names, train.classes if train else None)
            self.classes, self.targets, self.remarks = read.names, read.targets, read.remarks
        import datasets

        self._rows = rows.select_columns([self._image_column]).cast_column(self._image_column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, Any]:
        return Image.open(io.BytesIO(self.read(number))), self.targets[number]

    def read(self, number: int) -> bytes:
        """The encoded content of an image.

        Raises:
            OSError: when the row has no image, or its file cannot be read.
        """
        image = self._rows[number][self._image_column] or {}
        content: bytes | None = image.get("bytes")
        if content:
            return content
        if not image.get("path"):
            raise OSError(f"the row {self.names[number]} has no image")
        return Path(image["path"]).read_bytes()


def _class_labels(source: str, options: HuggingFaceOptions, rows: Any) -> tuple[list[str] | None, list[Any]]:
    """Names of the classes, if there are any, and the label of each row."""
    features = rows.features or {}
    if not isinstance(options.target_key, str | None):
        raise InvalidInput("data.options.target_key", list(options.target_key), "must be one column for target_kind: class")
    named = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    integers = [LABEL_NAME] if "int" in str(getattr(features.get(LABEL_NAME), "dtype", "")) else []
    labels = list(dict.fromkeys([*named, *integers]))
    column = _column(source, "target_key", options.target_key, labels, list(features))
    return getattr(features[column], "names", None), rows.select_columns([column])[:][column]


def _other_targets(
    source: str,
    options: HuggingFaceOptions,
    rows: Any,
    field: str,
    split: str,
    row_names: Sequence[str],
    names: Sequence[str] | None,
) -> ReadTargets:
    """Targets that are any number of classes, or values."""
    features, given = rows.features or {}, options.target_key
    if given is None:
        reason = f"must name the columns of the targets: {source} has the columns {', '.join(features)}"
        raise InvalidInput("data.options.target_key", None, reason)
    keys = (given,) if isinstance(given, str) else given
    for key in keys:
        _column(source, "target_key", key, [], list(features))
    cells = dict(rows.select_columns(list(keys))[:])
    item = getattr(features[keys[0]], "feature", None)  # of a column of lists
    class_names = getattr(item, "names", None)
    if class_names is not None:  # lists of numbers of classes
        _check_class_numbers(cells[keys[0]], len(class_names), keys[0], field, split, row_names)
        cells[keys[0]] = [[class_names[number] for number in numbers or ()] for numbers in cells[keys[0]]]
    columns = Columns(
        cells=cells, kind=options.target_kind, separator=None, field=field, split=split, row_name=lambda row: row_names[row]
    )
    return read_columns(columns, names or class_names)


def _check_class_numbers(
    cells: Sequence[Sequence[int | None] | None], classes: int, column: str, field: str, split: str, row_names: Sequence[str]
) -> None:
    """Check that lists hold numbers of classes: -1 and `None` stand for labels that are hidden."""
    wrong = [row for row, numbers in enumerate(cells) if not all(number in range(classes) for number in numbers or ())]
    if wrong:
        more = f" (one of {len(wrong):,})" if len(wrong) > 1 else ""
        reason = f"{row_names[wrong[0]]}{more} has {cells[wrong[0]]!r} as {column}; must be numbers from 0 to {classes - 1}"
        raise InvalidInput(field, split, reason)


def _load(spec: DataSpec, split: str, field: str) -> Any:
    """The rows of a split."""
    try:
        import datasets
    except ImportError:
        raise InvalidInput("data.name", spec.name, "needs the package datasets: pip install datasets") from None
    name = spec.name.removeprefix(PREFIX)
    try:
        if not any(Path(name, file).is_file() for file in ("dataset_dict.json", "state.json")):
            return datasets.load_dataset(name, split=split, cache_dir=spec.root)
        saved = datasets.load_from_disk(name)
    except Exception as error:  # the package raises errors of many kinds
        raise InvalidInput(field, split, f"cannot be opened as {spec.name!r}: {error}") from None
    if not isinstance(saved, dict):
        saved = {"train": saved}  # a single split was saved; it is called as `load_dataset` would call it
    if split not in saved:
        reason = f"cannot be opened as {spec.name!r}: the data set on disk has the splits {', '.join(saved)}"
        raise InvalidInput(field, split, reason)
    return saved[split]


def _column(source: str, key: str, given: str | None, candidates: list[str], columns: list[str]) -> str:
    """The column that the user chose, or the only candidate."""
    if given is not None:
        if given not in columns:
            raise InvalidInput(f"data.options.{key}", given, f"{source} has the columns {', '.join(columns)}")
        return given
    kind = "images" if key == "input_key" else "class labels"
    if not candidates:
        reason = f"has no column of {kind}; it has the columns {', '.join(columns)}"
        raise InvalidInput("data.name", source, f"{reason}; name one as data.options.{key}")
    if len(candidates) > 1:
        reason = f"has several columns of {kind}: {', '.join(candidates)}"
        raise InvalidInput("data.name", source, f"{reason}; name one as data.options.{key}")
    return candidates[0]


def _row_names(rows: Any, split: str) -> list[str]:
    """Split and number of each row, so that rows of overlapping slices (`train[:90%]`, `train[80%:]`) have equal names."""
    import datasets

    lengths = {name: info.num_examples for name, info in (rows.info.splits or {}).items()}
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
        names = [f"{part.splitname}/{number}" for part in parts for number in range(part.from_, part.to)]
    except (ValueError, KeyError, AssertionError):
        names = []
    return names if len(names) == len(rows) else [f"{split}/{number}" for number in range(len(rows))]
