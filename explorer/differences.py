"""Comparison of nested settings: their values by dotted name, and those that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A setting that differs."""

    field: str
    """Dotted name: `recipe.batch_size`."""
    before: Any
    """Its value before; `None` where it was not set."""
    after: Any
    """Its value after; `None` where it is not set."""


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted name; an empty mapping is a value."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            values |= flattened(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def differences(before: Mapping[str, Any], after: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Yield the settings that differ: first in the order of `after`, then those that only `before` has.

    Args:
        before: nested settings.
        after: nested settings.
        ignored: dotted names, or prefixes of them, that may differ.
    """
    old, new = flattened(before), flattened(after)
    for field in dict.fromkeys([*new, *old]):
        if not field.startswith(ignored) and (field not in old or field not in new or old[field] != new[field]):
            yield Difference(field, old.get(field), new.get(field))


def first_difference(before: Mapping[str, Any], after: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> Difference | None:
    """The first of `differences`, or `None` if there is none."""
    return next(differences(before, after, ignored), None)
