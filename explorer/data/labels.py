"""The checks of labels that the images of every source pass, before anything is trained on them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.errors import InvalidInput

SHOWN_NAMES = 3
"""Classes or images that a message names."""


@dataclass(frozen=True, kw_only=True)
class GivenSplit:
    """The images of a split as a source gives them."""

    field: str
    """Name of the setting that holds the split, for messages: `data.test_split`."""
    split: str | None
    """Value of that setting, for messages."""
    data: Any
    """The images; see `ImageDataset` for what may stand beside them."""


def read_labels(given: GivenSplit) -> list[int]:
    """The label of every image. Images are decoded only where the data set has no list of labels.

    Raises:
        InvalidInput: when a label is missing, hidden (`None` or negative) or not an integer, or their number is not that of the
            images.
    """
    data, values = given.data, given_values(given, "labels")
    labels, hidden = [], []
    for number, value in enumerate(values):
        try:
            label = -1 if value is None else operator.index(value)
        except TypeError:
            reason = f"the label of {image_name(data, number)} is {value!r}; labels must be integers from 0"
            raise InvalidInput(given.field, given.split, reason) from None
        if label < 0:
            hidden.append(number)
        labels.append(label)
    if hidden:
        reason = f"{len(hidden)} of {len(labels)} images have no label (None or negative), for example "
        raise InvalidInput(given.field, given.split, f"{reason}{image_name(data, hidden[0])}")
    return labels


def class_names(train: GivenSplit, labels: Sequence[int]) -> tuple[str, ...]:
    """Names of the classes in the order of their labels: those of the data set, or the numbers 0 to the largest label.

    Raises:
        InvalidInput: when a label is not that of a named class, or without names when there are more classes than images.
    """
    largest = max(labels)
    if names := _own_class_names(train.data):
        if largest >= len(names):
            image = image_name(train.data, labels.index(largest))
            reason = f"the label of {image} is {largest}, but there are {len(names)} classes: 0 to {len(names) - 1}"
            raise InvalidInput(train.field, train.split, reason)
        return names
    if largest >= len(labels):
        image = image_name(train.data, labels.index(largest))
        reason = f"the label of {image} is {largest}, but there are only {len(labels)} images; classes must be numbered from 0"
        raise InvalidInput(train.field, train.split, reason)
    return tuple(str(label) for label in range(largest + 1))


def check_held_out(held_out: GivenSplit, labels: Sequence[int], names: Sequence[str], train_labels: Sequence[int]) -> None:
    """Check that a split has only classes that have training images, numbered as those are. It may lack classes.

    Raises:
        InvalidInput: naming the first classes that no training image has, or the first class with another number.
    """
    own_names = _own_class_names(held_out.data)
    if own_names and own_names != tuple(names):
        if unknown := [name for name in own_names if name not in names]:
            raise InvalidInput(held_out.field, held_out.split, f"has classes that no training image has: {some(unknown)}")
        # Without the last classes, the others have the same numbers.
        if (first := next((own for own, name in zip(own_names, names, strict=False) if own != name), None)) is not None:
            numbers = f"{own_names.index(first)} instead of {list(names).index(first)}"
            reason = f"numbers its classes differently from the training images: {first!r} is {numbers}"
            raise InvalidInput(held_out.field, held_out.split, reason)
    if unknown_labels := sorted(set(labels) - set(train_labels)):
        unknown = [names[label] if label < len(names) else str(label) for label in unknown_labels]
        reason = f"has classes that no training image has: {some(unknown)}"
        raise InvalidInput(held_out.field, held_out.split, reason)


def check_no_image_twice(splits: Sequence[GivenSplit]) -> None:
    """Check that no image is in two splits, by the names of the images; contents are compared when they are read.

    Raises:
        InvalidInput: naming the first two splits that share images, and how many.
    """
    names = [_identities(split.data) for split in splits]
    for number, split in enumerate(splits):
        for other, other_names in zip(splits[:number], names, strict=False):
            if shared := names[number] & other_names:
                reason = f"has {len(shared)} images of {other.field} ({other.split!r}), for example {min(shared)}"
                reason += "; training, validation and test images must differ"
                raise InvalidInput(split.field, split.split, reason)


def _identities(data: Any) -> set[str]:
    """The names of the images; images without names are those of the object that holds them."""
    names = image_names(data)
    return set(names) if names is not None else {f"image {number} of {id(data)}" for number in range(len(data))}


def image_names(data: Any) -> Sequence[str] | None:
    """Name of each image relative to the root of the data set; `None` if the data set does not name them."""
    names: Sequence[str] | None = getattr(data, "names", None)
    if names is None and (samples := getattr(getattr(data, "reader", None), "samples", None)):
        return [str(path) for path, _ in samples]  # timm's folders
    return names


def image_name(data: Any, number: int) -> str:
    """Name of an image for messages."""
    names = image_names(data)
    return names[number] if names is not None else f"image {number}"


def given_values(given: GivenSplit, called: str) -> list[Any]:
    """The target of every image as the data set gives it.

    Args:
        given: the images of a split.
        called: what targets are called in messages: `labels`.

    Raises:
        InvalidInput: when their number is not that of the images, or there are none.
    """
    data = given.data
    values = label_values(data)
    if len(values) != len(data):
        raise InvalidInput(given.field, given.split, f"has {len(values)} {called} for {len(data)} images")
    if not values:
        raise InvalidInput(given.field, given.split, "has no images")
    return values


def label_values(data: Any) -> list[Any]:
    """The label of every image as the data set gives it; images are decoded only where it has no list of labels."""
    reader = getattr(data, "reader", None)  # of timm's data sets
    if samples := getattr(reader, "samples", None):
        return [label for _, label in samples]
    if iterate := getattr(reader, "iter_targets", None):
        return list(iterate())
    targets = getattr(data, "targets", None)
    if targets is None:
        return [data[number][1] for number in range(len(data))]
    return list(targets.tolist() if hasattr(targets, "tolist") else targets)


def _own_class_names(data: Any) -> tuple[str, ...] | None:
    """Names of the classes in the order of their labels; `None` if the data set does not name them."""
    numbers = getattr(getattr(data, "reader", data), "class_to_idx", None)
    classes = getattr(data, "classes", None)
    if isinstance(classes, Sequence) and classes and not isinstance(classes, str):
        # torchvision's ImageNet gives all synonyms of a class.
        return tuple(", ".join(name) if isinstance(name, (tuple, list)) else str(name) for name in classes)
    if isinstance(numbers, Mapping) and sorted(numbers.values()) == list(range(len(numbers))) and numbers:
        return tuple(sorted(numbers, key=numbers.__getitem__))
    return None


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
