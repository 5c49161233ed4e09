"""Hugging Face data sets: `hfds/cifar10`, a folder of files, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput, validated
from explorer.spec.base import Frozen
from explorer.spec.data import DataSpec

PREFIX = "hfds/"
LABEL_NAME = "label"
"""Name of an integer column that holds labels without the names of classes, as in timm."""


class HuggingFaceOptions(Frozen):
    """`data.options` of a Hugging Face data set."""

    input_key: str | None = None
    """Column of the images. `None` takes the only column of images."""
    target_key: str | None = None
    """Column of the labels. `None` takes the only column of class labels, or of integers named `label`."""


def open_hugging_face(spec: DataSpec) -> StreamedData:
    """Open a Hugging Face data set by name or folder; `spec.root` is the folder of its cache.

    Raises:
        InvalidInput: when a split cannot be opened, or which columns are images and labels is not clear.
    """
    options = validated(HuggingFaceOptions, spec.options, "data.options")
    train = HuggingFaceImages(spec, options, spec.train_split, "data.train_split")
    test = None if spec.test_split is None else HuggingFaceImages(spec, options, spec.test_split, "data.test_split")
    validation = None
    if spec.validation_split is not None:
        validation = HuggingFaceImages(spec, options, spec.validation_split, "data.validation_split")
    return StreamedData(spec, train, test, validation)


class HuggingFaceImages:
    """The images of a split.

    Args:
        spec: name of the data set, and folder of its cache.
        options: columns to read.
        split: as the package `datasets` writes it: `train`, `train[:90%]`.
        field: name of the setting that holds the split, for error messages.

    Raises:
        InvalidInput: when the split cannot be opened, or which columns are images and labels is not clear.
    """

    def __init__(self, spec: DataSpec, options: HuggingFaceOptions, split: str, field: str) -> None:
        rows = _load(spec, split, field)
        features = rows.features or {}
        is_image = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
        self._image_column = _column(spec.name, "input_key", options.input_key, is_image, list(features))
        named = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
        integers = [LABEL_NAME] if "int" in str(getattr(features.get(LABEL_NAME), "dtype", "")) else []
        labels = list(dict.fromkeys([*named, *integers]))
        label_column = _column(spec.name, "target_key", options.target_key, labels, list(features))
        self.classes: list[str] | None = getattr(features[label_column], "names", None)
        """Names of the classes; `None` if the labels are plain integers."""
        self.targets: list[Any] = rows.select_columns([label_column])[:][label_column]
        self.names = _row_names(rows, split)
        import datasets

        self._rows = rows.select_columns([self._image_column]).cast_column(self._image_column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
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
