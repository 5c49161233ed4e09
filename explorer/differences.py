"""Nested settings compared: the leaves by dotted names, and the first that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A setting that differs."""

    field: str
    """Dotted name: `recipe.batch_size`."""
    before: Any
    after: Any
    """`None` where that side does not have the setting."""


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted name; an empty mapping is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            leaves |= flattened(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def differences(before: Mapping[str, Any], after: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Settings that differ, in the order of `after`, then those that only `before` has.

    Args:
        before: nested settings.
        after: nested settings.
        ignored: prefixes of dotted names that may differ.
    """
    one, other = flattened(before), flattened(after)
    for field in dict.fromkeys([*other, *one]):
        if not field.startswith(ignored) and (field not in one or field not in other or one[field] != other[field]):
            yield Difference(field, one.get(field), other.get(field))


def first_difference(before: Mapping[str, Any], after: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> Difference | None:
    """The first of `differences`; `None` where there is none."""
    return next(differences(before, after, ignored), None)
