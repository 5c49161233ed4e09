"""Map-style data sets of the user's, such as torch's: objects with a length and random access, one for each split.

An item is a pair of an image and a target, or a dictionary with both. See `as_image` for what an image may be.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from torch.utils.data import IterableDataset

from explorer.data.array_images import ModelImage, as_image, channels_of
from explorer.data.image_files import printable
from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput, validated
from explorer.spec.base import Settings
from explorer.spec.data import DataSpec, TargetKind

TRIED_ITEMS = 8
"""Items that are read to find out what the images are, where the first ones cannot be read."""
NO_RANDOM_ACCESS = "can only be read in sequence, but training needs random access: a length and `data[number]`"


class ItemOptions(Settings):
    """The entries of `data.options` that say what the items of a data set are; all others are given to it."""

    input_key: str = "image"
    """Key of the image in items that are dictionaries."""
    target_key: str = "label"
    """Key of the target in items that are dictionaries."""
    target_kind: TargetKind | None = None
    """What a target is. `None`: what the attribute `target_kind` of the data set says, or one class where it has none."""


def is_map_style(factory: Callable[..., Any]) -> bool:
    """Whether a function or class gives the data set of one split: it has a parameter `split`."""
    try:
        return "split" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def open_map_style(spec: DataSpec, factory: Callable[..., Any]) -> StreamedData:
    """Call a function or class once for each split, with `split`, the options as keyword arguments, and `root` if it takes one.

    Raises:
        InvalidInput: when it does not take the options or fails, or what it returns cannot be trained on.
    """
    own = {name: value for name, value in spec.options.items() if name in ItemOptions.model_fields}
    options = validated(ItemOptions, own, "data.options")
    arguments = {name: value for name, value in spec.options.items() if name not in own}
    signature = inspect.signature(factory)
    if spec.root is not None and "root" in signature.parameters:
        arguments.setdefault("root", spec.root)
    try:
        signature.bind(split=spec.train_split, **arguments)
    except TypeError as error:
        reason = f"{spec.name} has the parameters {', '.join(signature.parameters)}: {error}"
        raise InvalidInput("data.options", spec.options, reason) from None
    sets = {}
    for role in ("train", "validation", "test"):
        split, field = getattr(spec, f"{role}_split"), f"data.{role}_split"
        if split is not None:
            try:
                sets[role] = factory(split=split, **arguments)
            except InvalidInput:
                raise
            except Exception as error:  # the user's code may fail in any way
                reason = f"{spec.name} cannot open it: {type(error).__name__}: {error}"
                raise InvalidInput(field, split, reason) from error
    return map_style_data(spec, sets, options)


def map_style_data(spec: DataSpec, sets: Mapping[str, Any], options: ItemOptions | None = None) -> StreamedData:
    """A data source of map-style data sets.

    Args:
        spec: size and preprocessing of the images, names of the splits, and the number of processes that read items.
        sets: the data sets by role: `train`, and `validation` and `test`, which are set aside from the training images if they
            are missing.
        options: what the items are; `None` reads them from `spec.options`.

    Raises:
        InvalidInput: when a data set has no length, no random access or no images, or its items are not what they should be.
    """
    options = options or validated(ItemOptions, spec.options, "data.options")
    if "train" not in sets or (unknown := sorted(sets.keys() - {"train", "validation", "test"})):
        reason = "must be data sets by the names train, validation and test; without the last two, images are set aside"
        raise InvalidInput("data", ", ".join(sets) if "train" not in sets else ", ".join(unknown), reason)
    train = MapStyleImages(sets["train"], options, spec.train_split, "data.train_split")
    held_out = {
        role: MapStyleImages(sets[role], options, getattr(spec, f"{role}_split") or role, f"data.{role}_split", train)
        for role in ("validation", "test")
        if role in sets
    }
    names: dict[str, str | None] = {f"{role}_split": None for role in ("validation", "test")}
    names |= {f"{role}_split": getattr(spec, f"{role}_split") or role for role in held_out}
    return StreamedData(spec.model_copy(update=names), train, held_out.get("test"), held_out.get("validation"))


class MapStyleImages:
    """The images of a split of a map-style data set; see `ImageDataset`.

    Args:
        data: the data set.
        options: what its items are.
        split: name of the split, for messages.
        field: name of the setting that holds the split, for messages.
        train: the training images, of a held-out split: its images and targets must be of the same kind.

    Raises:
        InvalidInput: see `map_style_data`.
    """

    def __init__(self, data: Any, options: ItemOptions, split: str, field: str, train: MapStyleImages | None = None) -> None:
        self._data, self._options = data, options
        _check_access(data, split, field)
        kind = options.target_kind or getattr(data, "target_kind", None) or (train.target_kind if train else "class")
        if kind not in get_args(TargetKind):
            allowed = f"{type(data).__name__}.target_kind must be one of {', '.join(get_args(TargetKind))}"
            raise InvalidInput(field, str(kind), allowed)
        self.target_kind: TargetKind = kind
        """What the targets are."""
        for name in ("classes", "class_to_idx"):
            if isinstance(value := getattr(data, name, None), Sequence | Mapping) and not isinstance(value, str):
                setattr(self, name, value)
        if names := _own_names(getattr(data, "names", None), len(data)):
            self.names = names
        own_channels = channels_of(self._first_image(split, field))
        self.channels: int | None = train.channels if train else own_channels
        """Number of channels of the images if they are tensors; `None` if they are 8-bit RGB."""
        if own_channels != self.channels:
            kinds = ["8-bit RGB" if each is None else f"tensors of {each} channels" for each in (own_channels, self.channels)]
            raise InvalidInput(field, split, f"has images that are {kinds[0]}, and the training images are {kinds[1]}")
        self.targets = self._read_targets(split, field)
        """Target of each image."""
        self._check_first_target(split, field)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self._parts(number)

    def _parts(self, number: int) -> tuple[Any, Any]:
        """Image and target of an item.

        Raises:
            ValueError: when it is neither a pair nor a dictionary with both.
        """
        item = self._data[number]
        if isinstance(item, Mapping):
            keys = self._options.input_key, self._options.target_key
            for key, option in zip(keys, ("input_key", "target_key"), strict=True):
                if key not in item:
                    raise ValueError(f"has no key {key!r}, but {', '.join(map(str, item))}; name one as data.options.{option}")
            return item[keys[0]], item[keys[1]]
        if not isinstance(item, tuple | list) or len(item) != 2:
            form = f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else type(item).__name__
            raise ValueError(f"is a {form}; must be a pair of an image and a target, or a dictionary with both")
        return item[0], item[1]

    def _first_image(self, split: str, field: str) -> ModelImage:
        """The first image that can be read."""
        first_error: Exception | None = None
        for number in range(min(TRIED_ITEMS, len(self))):
            try:
                return as_image(self._parts(number)[0])
            except Exception as error:  # the user's code may fail in any way
                first_error = first_error or error
        kind = "" if isinstance(first_error, ValueError) else f"{type(first_error).__name__}: "
        raise InvalidInput(field, split, f"item 0 cannot be used: {kind}{first_error}") from first_error

    def _read_targets(self, split: str, field: str) -> list[Any]:
        """The list of targets that the data set has, if it is that of its items; otherwise every item is read."""
        targets = getattr(self._data, "targets", None)
        given = None if targets is None else list(targets.tolist() if hasattr(targets, "tolist") else targets)
        is_list = given is not None and len(given) == len(self)
        read = range(len(self)) if not is_list else sorted({0, len(self) // 2, len(self) - 1})
        values = list(given or ()) if is_list else []
        for number in read:
            try:
                target = self._parts(number)[1]
            except Exception as error:  # the user's code may fail in any way
                if is_list:
                    continue  # the check of the images reports it, or leaves it out
                reason = f"item {number} cannot be read for its target: {type(error).__name__}: {error}"
                raise InvalidInput(field, split, reason) from error
            if not is_list:
                values.append(target)
            elif not _equal(target, values[number]):
                reason = f"the target of item {number} is {target!r}, but the attribute targets has {values[number]!r}"
                raise InvalidInput(field, split, f"{reason}: they must agree (target_transform?)")
        return values

    def _check_first_target(self, split: str, field: str) -> None:
        first = self.targets[0]
        if self.target_kind == "class" and first is not None:
            try:
                operator.index(first)
            except TypeError:
                reason = f"the target of item 0 is {first!r}, which is no class (an integer from 0); for rows of numbers, set "
                raise InvalidInput(field, split, f"{reason}data.options.target_kind to labels or values") from None


def _check_access(data: Any, split: str, field: str) -> None:
    name = type(data).__name__
    has_access = hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__")
    if isinstance(data, IterableDataset) or not has_access:
        raise InvalidInput(field, split, f"{name} {NO_RANDOM_ACCESS}")
    try:
        length = len(data)
    except Exception as error:  # the user's code may fail in any way
        raise InvalidInput(field, split, f"{name} has no length: {type(error).__name__}: {error}") from error
    if not length:
        raise InvalidInput(field, split, f"{name} has no images: its length is 0")


def _own_names(names: object, count: int) -> list[str] | None:
    """The names of the images, if they tell the images apart: file names without their folders may repeat."""
    if not isinstance(names, list | tuple) or len(names) != count or not all(isinstance(name, str) for name in names):
        return None
    return [printable(name) for name in names] if len(set(names)) == count else None


def _equal(one: Any, other: Any) -> bool:
    values = [value.tolist() if hasattr(value, "tolist") else value for value in (one, other)]
    return bool(values[0] == values[1])
