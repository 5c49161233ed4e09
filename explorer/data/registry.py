"""Data sources by name. The built-in sources are registered like any other."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from explorer.data.map_style import is_map_style, open_map_style
from explorer.data.source import DataSource, HasSubsets
from explorer.errors import InvalidInput
from explorer.paths import expanded
from explorer.references import FORM, is_reference, load_reference
from explorer.spec.data import DataSpec

SourceFactory = Callable[..., Any]
"""Opens a data set; a class whose constructor takes the settings is one. A function or class with a parameter `split` gives a
map-style data set of one split in place of a data source; see `explorer.data.map_style`."""

_BUILT_IN: dict[str, str] = {
    "digits": "explorer.data.digits:open_digits",
    "fractals": "explorer.data.fractals:open_fractals",
    "folder": "explorer.data.folder:open_folder",
    "wds": "explorer.data.tar_shards:open_tar_shards",
    "torch/": "explorer.data.torchvision_sets:open_torchvision",
    "hfds/": "explorer.data.hugging_face:open_hugging_face",
    "table": "explorer.data.table:open_table",
}
_WITH_OPTIONS = ("hfds/", "table")
"""Built-in sources that read `data.options`."""
_registered: dict[str, SourceFactory | str] = dict(_BUILT_IN)
_SEQUENTIAL = ("tfds/", "hfids/", "wds/")
"""Prefixes of timm's data sets that have no random access."""


def register(name: str, factory: SourceFactory | str) -> None:
    """Make a data source available as `data.name` in this process; a name that is registered already is replaced.

    The processes of a sweep do not see what a script registers: search spaces name a source outside this package by its
    reference, `package.module:name`, which needs no registration.

    Args:
        name: value of `data.name`. A name that ends in a slash is a prefix: `torch/` opens `torch/cifar10`.
        factory: opens the data set, or a reference to such a function: `package.module:name`.

    Raises:
        InvalidInput: when the name is that of a built-in source, or is empty or holds a colon.
    """
    if name in _BUILT_IN:
        raise InvalidInput("name", name, "is a built-in data source and cannot be replaced")
    if not name.strip("/") or ":" in name:
        raise InvalidInput("name", name, "must be a name without a colon")
    _registered[name] = factory
    forget_opened()


def registered_names() -> tuple[str, ...]:
    """Names of all registered sources in order; those that end in a slash are prefixes."""
    return tuple(sorted(_registered))


def open_data(spec: DataSpec) -> DataSource:
    """Open all splits of a data set. The last few that were opened stay open until `forget_opened`.

    Sources get the root with `~` and variables replaced. The built-in ones require an image size; a `Task` requires it of all.

    Raises:
        InvalidInput: when there is no such source, it does not implement `DataSource`, or its data cannot be opened; when the
            image size is missing, or a variable in the root is not set; when `data.train_fraction` leaves no image of a class,
            or the source has no subsets.
    """
    root = None if spec.root is None else expanded(spec.root, "data.root")
    whole = spec.model_copy(update={"root": root, "train_fraction": 1.0}).model_dump_json()
    return _open(whole) if spec.train_fraction == 1 else _subset(whole, spec.train_fraction)


def forget_opened() -> None:
    """Have data sets opened anew from now on, because their files may have changed."""
    _open.cache_clear()
    _subset.cache_clear()


@lru_cache(maxsize=4)
def _subset(whole_json: str, fraction: float) -> DataSource:
    """A data set with a stratified subset of its training images."""
    whole = _open(whole_json)
    if not isinstance(whole, HasSubsets):
        reason = f"must be 1: {DataSpec.model_validate_json(whole_json).name!r} has no method with_train_fraction"
        raise InvalidInput("data.train_fraction", fraction, reason)
    return whole.with_train_fraction(fraction)


@lru_cache(maxsize=4)
def _open(spec_json: str) -> DataSource:
    spec = DataSpec.model_validate_json(spec_json)
    factory, takes_options = _factory(spec.name)
    if spec.options and not takes_options:
        raise InvalidInput("data.options", spec.options, f"{spec.name!r} has no options")
    source = _opened(spec, factory)
    members = [name for name in vars(DataSource) if not name.startswith("_")]
    if missing := [name for name in members if not hasattr(source, name)]:
        reason = f"does not implement explorer.data.DataSource: it lacks {', '.join(missing)}"
        if hasattr(source, "__getitem__"):
            reason += "; what gives a map-style data set must have a parameter split, and is called once for each split"
        raise InvalidInput("data.name", spec.name, reason)
    return source


def _opened(spec: DataSpec, factory: SourceFactory) -> Any:
    """What a factory returns; what code of the user's raises becomes one line."""
    if getattr(factory, "__module__", "").startswith("explorer."):
        return factory(spec)
    if is_map_style(factory):
        return open_map_style(spec, factory)
    try:
        return factory(spec)
    except InvalidInput:
        raise
    except Exception as error:  # the user's code may fail in any way
        raise InvalidInput("data.name", spec.name, f"cannot be opened: {type(error).__name__}: {error}") from error


def _factory(name: str) -> tuple[SourceFactory, bool]:
    """The factory of a source, and whether it reads `data.options`."""
    prefix, slash, rest = name.partition("/")
    key = prefix + slash if rest and name not in _registered else name
    if key in _registered and (rest or not slash):  # a prefix alone names no data set
        registered = _registered[key]
        factory = load_reference(registered, "data.name") if isinstance(registered, str) else registered
        return factory, key not in _BUILT_IN or key in _WITH_OPTIONS
    if is_reference(name):
        factory = load_reference(name, "data.name")
        if not callable(factory):
            raise InvalidInput("data.name", name, "must be a function or a class that takes the data settings or a split")
        return factory, True
    if f"{prefix.lower()}/" in _SEQUENTIAL and name.lower() not in _registered:
        reason = "is read in sequence, but training needs random access to images; use folder, torch/..., hfds/... or wds"
        raise InvalidInput("data.name", name, reason)
    names = ", ".join(f"{each}..." if each.endswith("/") else each for each in registered_names())
    raise InvalidInput("data.name", name, f"unknown data source; {_hint(name)}Allowed are {names} and {FORM}")


def _hint(name: str) -> str:
    """What may have been meant: the same name in lower case, a prefix without its data set, or a similar name."""
    prefix, _, rest = name.partition("/")
    if f"{prefix.lower()}/" in _registered:
        meant = f"{prefix.lower()}/{rest or 'NAME'}"
        return f"did you mean {meant!r}? "
    near = difflib.get_close_matches(name.lower(), registered_names(), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
