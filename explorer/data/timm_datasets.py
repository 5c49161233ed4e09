"""Folders, torchvision's and Hugging Face's data sets, as `timm.data.create_dataset` opens them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data import create_dataset

from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec

FOLDER_NAMES = ("folder", "torch/folder", "torch/image_folder")
"""Names of data sets that have a subfolder for each split."""

ClassNumbers = Mapping[str, int]
"""Labels by the name of their class."""


def open_folder(spec: DataSpec) -> StreamedData:
    """Open `root/split/class/image` folders. A held-out split may lack classes; its labels are those of training.

    Raises:
        InvalidInput: when the folder of a split is missing, has no images, or has a class that the training images lack.
    """
    require_root(spec)
    return _open_splits(spec, may_lack_classes=True)


def require_root(spec: DataSpec) -> Path:
    """The folder of a data set on disk.

    Raises:
        InvalidInput: when `spec.root` is missing or not a folder.
    """
    if spec.root is None:
        raise InvalidInput("data.root", None, f"this key is required for {spec.name!r}: the folder of the data set")
    if not Path(spec.root).is_dir():
        raise InvalidInput("data.root", spec.root, "there is no such folder")
    return Path(spec.root)


def _open_splits(spec: DataSpec, *, may_lack_classes: bool = False) -> StreamedData:
    train = _open(spec, spec.train_split, "data.train_split")
    train_classes = _class_numbers(train)

    def held_out(split: str, field: str) -> Any:
        data = _open(spec, split, field)
        classes = _class_numbers(data)
        if train_classes is None or classes is None or classes == train_classes:
            return data
        if unknown := sorted(set(classes) - set(train_classes)):
            raise InvalidInput(field, split, f"has classes that no training image has: {', '.join(unknown[:3])}")
        if not may_lack_classes:
            raise InvalidInput(field, split, "must have all classes that the training images have")
        # Numbered on their own, the classes that the split has would get other numbers than in training.
        return _open(spec, split, field, train_classes)

    validation = None
    if spec.validation_split is not None:
        validation = held_out(spec.validation_split, "data.validation_split")
    test = None if spec.test_split is None else held_out(spec.test_split, "data.test_split")
    return StreamedData(spec, train, test, validation)


def _open(spec: DataSpec, split: str, field: str, class_map: ClassNumbers | None = None) -> Any:
    name = "" if spec.name == "folder" else spec.name  # timm's name for folders
    try:
        data = create_dataset(name, root=spec.root, split=split, search_split=True, class_map=class_map)
    except Exception as error:  # each of timm's readers fails in its own way
        raise InvalidInput(field, split, f"cannot be opened as {spec.name!r}: {error}") from None
    # Where the folder of a split is missing, timm opens the whole root.
    if spec.name in FOLDER_NAMES and getattr(data, "reader", data).root == spec.root:
        raise InvalidInput(field, split, f"there is no such folder in {spec.root}")
    if len(data) == 0:
        raise InvalidInput(field, split, f"has no images under {spec.root}")
    return data


def _class_numbers(data: Any) -> ClassNumbers | None:
    """Labels by class name, where timm's reader or torchvision's data set has them."""
    return getattr(getattr(data, "reader", data), "class_to_idx", None) or None
