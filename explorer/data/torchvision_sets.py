"""torchvision's data sets by the names that timm has for them: `torch/cifar10`, `torch/image_folder`, ...

timm opens the test images for every name of a split that it does not know (`trian`), and the whole root where the folder of a
split is missing. Here each data set has a table of the names of its splits, and every other name is refused.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS

from explorer.data.image_files import ImageFiles, printable
from explorer.data.root import require_root
from explorer.data.streamed import ImageDataset, StreamedData
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec

PREFIX = "torch/"
TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "val", "valid", "eval", "evaluation")
"""Names of a split that mean the same, as in timm."""


class ArrayImages:
    """Images that torchvision holds in memory."""

    def __init__(self, data: Any, split: str, targets: Sequence[int]) -> None:
        self._data = data
        self.targets = list(targets)
        self.classes: list[str] = data.classes
        self.names = [f"{split}/{number}" for number in range(len(data))]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return self._data[number][0], self.targets[number]


class FileImages(ImageFiles):
    """Images that torchvision finds in files."""

    is_listed_with_sizes = False
    """See `OpenedSplit`: listings of these data sets never had sizes."""

    def __init__(
        self,
        root: str,
        paths: Sequence[str],
        targets: Sequence[int],
        classes: Sequence[Any],
        passed_over: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(paths, [printable(os.path.relpath(path, root)) for path in paths], list(targets))
        self.classes = [printable(name) if isinstance(name, str) else name for name in classes]
        self.passed_over = dict(passed_over or {})


@dataclass(frozen=True, kw_only=True)
class _KnownSet:
    """A data set of torchvision and the names of its splits."""

    open: Callable[[str, str], ImageDataset]
    """Opens a split, given the root and torchvision's name of the split."""
    splits: Mapping[str, str]
    """torchvision's name of each split by the names that `data.train_split` and the others may have."""


def open_torchvision(spec: DataSpec) -> StreamedData:
    """Open a data set of torchvision that timm knows: `torch/cifar10`, `torch/image_folder`, ...

    Raises:
        InvalidInput: when there is no such data set or split, or it cannot be opened.
    """
    root = str(require_root(spec))
    name = spec.name.removeprefix(PREFIX).lower()
    if name in ("image_folder", "folder"):
        return _open_image_folders(spec, root)
    if name not in KNOWN_SETS:
        near = difflib.get_close_matches(name, KNOWN_SETS, n=1)
        hint = f"did you mean {PREFIX + near[0]!r}? " if near else ""
        allowed = ", ".join((*KNOWN_SETS, "image_folder"))
        raise InvalidInput("data.name", spec.name, f"unknown data set of torchvision; {hint}Allowed after torch/ are {allowed}")
    known = KNOWN_SETS[name]

    def opened(split: str, field: str) -> ImageDataset:
        if split not in known.splits:
            raise InvalidInput(field, split, f"{spec.name} has no such split; must be one of {', '.join(known.splits)}")
        try:
            return known.open(root, known.splits[split])
        except Exception as error:  # each of torchvision's classes fails in its own way
            raise InvalidInput(field, split, f"cannot be opened as {spec.name!r} in {root}: {error}") from None

    train = opened(spec.train_split, "data.train_split")
    test = None if spec.test_split is None else opened(spec.test_split, "data.test_split")
    validation = None if spec.validation_split is None else opened(spec.validation_split, "data.validation_split")
    return StreamedData(spec, train, test, validation)


def _names(names: Sequence[str], split: str) -> dict[str, str]:
    return dict.fromkeys(names, split)


def _array_set(dataset: Callable[..., Any]) -> _KnownSet:
    """A set that has training and test images alone: every name of a held-out split means the test images."""

    def opened(root: str, split: str) -> ImageDataset:
        data = dataset(root, train=split == "train")
        targets = data.targets.tolist() if hasattr(data.targets, "tolist") else data.targets
        # QMNIST has a row for each image, in which the class comes first.
        return ArrayImages(data, split, [row[0] if isinstance(row, list) else row for row in targets])

    return _KnownSet(open=opened, splits=_names(TRAIN_NAMES, "train") | _names((*VALIDATION_NAMES, "test"), "test"))


def _open_imagenet(root: str, split: str) -> ImageDataset:
    data = datasets.ImageNet(root, split)
    return FileImages(root, [path for path, _ in data.samples], data.targets, data.classes)


def _open_places365(root: str, split: str) -> ImageDataset:
    data = datasets.Places365(root, split)
    return FileImages(root, [path for path, _ in data.imgs], data.targets, data.classes)


def _open_inaturalist(root: str, split: str) -> ImageDataset:
    data = datasets.INaturalist(root, split)
    paths = [os.path.join(data.root, data.all_categories[label], file) for label, file in data.index]
    return FileImages(root, paths, [label for label, _ in data.index], data.all_categories)


_INATURALIST = _KnownSet(
    open=_open_inaturalist,
    splits=_names((*TRAIN_NAMES, "2021_train"), "2021_train")
    | {name: name for name in ("2021_train_mini", "2017", "2018", "2019")}
    | _names((*VALIDATION_NAMES, "2021_valid"), "2021_valid"),
)
KNOWN_SETS: Mapping[str, _KnownSet] = {
    "cifar10": _array_set(datasets.CIFAR10),
    "cifar100": _array_set(datasets.CIFAR100),
    "mnist": _array_set(datasets.MNIST),
    "kmnist": _array_set(datasets.KMNIST),
    "fashion_mnist": _array_set(datasets.FashionMNIST),
    "qmnist": _array_set(datasets.QMNIST),
    "imagenet": _KnownSet(open=_open_imagenet, splits=_names(TRAIN_NAMES, "train") | _names(VALIDATION_NAMES, "val")),
    "places365": _KnownSet(
        open=_open_places365,
        splits=_names((*TRAIN_NAMES, "train-standard"), "train-standard")
        | {"train-challenge": "train-challenge"}
        | _names(VALIDATION_NAMES, "val"),  # its test images have no labels
    ),
    "inaturalist": _INATURALIST,
    "inat": _INATURALIST,
}
"""The data sets that timm knows, by their lower-case names, without folders of images."""


class _ImageFolder(datasets.ImageFolder):
    """torchvision's folder of images, with the classes of the training images where those are given."""

    def __init__(self, folder: str, classes: Sequence[str] | None) -> None:
        self._training_classes = classes
        super().__init__(folder, is_valid_file=_is_image, allow_empty=classes is not None)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The training images' classes with their labels; without those, the subfolders in alphabetical order."""
        found, numbers = super().find_classes(directory)
        if self._training_classes is None:
            return found, numbers
        if unknown := [name for name in found if name not in self._training_classes]:
            raise ValueError(f"has classes that no training image has: {', '.join(unknown[:3])}")
        return list(self._training_classes), {name: number for number, name in enumerate(self._training_classes)}


def _is_image(path: str) -> bool:
    """Whether torchvision reads a file as an image. Names that start with a dot are other tools' (`._0001.jpg`)."""
    name = os.path.basename(path)
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _open_image_folders(spec: DataSpec, root: str) -> StreamedData:
    def opened(split: str, field: str, classes: Sequence[str] | None = None) -> _ImageFolder:
        folder = _split_folder(root, split, field)
        try:
            return _ImageFolder(folder, classes)
        except (OSError, ValueError) as error:
            raise InvalidInput(field, split, f"cannot be opened as {spec.name!r}: {printable(str(error))}") from None

    def images_of(data: _ImageFolder) -> FileImages:
        paths = [path for path, _ in data.samples]
        return FileImages(root, paths, data.targets, data.classes, _passed_over(str(data.root), set(paths)))

    train = opened(spec.train_split, "data.train_split")
    test = validation = None
    if spec.test_split is not None:
        test = images_of(opened(spec.test_split, "data.test_split", train.classes))
    if spec.validation_split is not None:
        validation = images_of(opened(spec.validation_split, "data.validation_split", train.classes))
    return StreamedData(spec, images_of(train), test, validation)


def _split_folder(root: str, split: str, field: str) -> str:
    """The folder of a split, under its own name or one that means the same (`val` for `validation`)."""
    if split and Path(root, split).is_dir():
        return os.path.join(root, split)
    synonyms = next((names for names in (TRAIN_NAMES, VALIDATION_NAMES) if split in names), ())
    present = [name for name in synonyms if Path(root, name).is_dir()]
    if len(present) == 1:
        return os.path.join(root, present[0])
    if present:
        raise InvalidInput(field, split, f"there is no such folder in {root}, and several may be meant: {', '.join(present)}")
    raise InvalidInput(field, split, f"there is no such folder in {root}")


def _passed_over(folder: str, images: set[str]) -> dict[str, int]:
    """Number of files that are not images, by reason."""
    counts: Counter[str] = Counter()
    for parent, _, files in os.walk(folder, followlinks=True):
        for name in files:
            if os.path.join(parent, name) not in images:
                hidden = name.startswith(".")
                suffix = printable(Path(name).suffix.lower()) or "without an ending"
                counts["hidden file" if hidden else f"{suffix}: not a format that torchvision reads"] += 1
    return dict(counts)
