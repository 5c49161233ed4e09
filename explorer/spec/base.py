"""The base class of everything that is read from files, and how files are parsed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from explorer.errors import InvalidInput
from explorer.paths import expanded


class Frozen(BaseModel):
    """A pydantic model that is immutable and refuses unknown keys."""

    # The namespaces are those of pydantic 2.10: 2.9 protects all of `model_`, and warns of `Provenance.model_input`.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=("model_validate", "model_dump"))


class Settings(Frozen):
    """What people write in files: its numbers must be finite."""

    model_config = ConfigDict(allow_inf_nan=False)


def without_empty(model: BaseModel, empty: tuple[object, ...] = (None,)) -> dict[str, Any]:
    """A model as plain data for a file, without settings that are empty by default; what was set to nothing stays.

    `model_dump(exclude_none=True)` loses `test_split: null`, whose default is a split, and `null` in what is passed on to timm.

    Args:
        model: settings.
        empty: the values that are left out.
    """
    return _without_empty(model.model_dump(mode="json"), model.model_dump(mode="json", exclude_defaults=True), empty)


def _without_empty(content: Any, given: Any, empty: tuple[object, ...]) -> Any:
    """`given` has what is not the default."""
    if isinstance(content, list):
        given = given if isinstance(given, list) else [None] * len(content)
        return [_without_empty(value, of_value, empty) for value, of_value in zip(content, given, strict=True)]
    if not isinstance(content, dict):
        return content
    given = given or {}
    nested = {key: _without_empty(value, given.get(key), empty) for key, value in content.items()}
    return {key: value for key, value in nested.items() if value not in empty or key in given}


def renamed(data: Any, names: Mapping[str, str]) -> Any:
    """The content of a file of an earlier release under today's names; anything but a mapping is returned as it is.

    Args:
        data: the content.
        names: today's name of each former one.
    """
    if not isinstance(data, dict):
        return data
    return {names.get(name, name) if names.get(name) not in data else name: value for name, value in data.items()}


class _GivenTwiceError(Exception):
    """A key that a mapping has twice; of which JSON and YAML would keep the last one."""


class _UniqueKeys(yaml.SafeLoader):
    """Safe loading that refuses keys that are given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _check_unique((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique(("str", name) for name, _ in pairs)
    return dict(pairs)


def _check_unique(keys: Iterable[tuple[str, str]]) -> None:
    """Check that no key, as its type and text, is given twice."""
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if key in seen:
            raise _GivenTwiceError(key[1])
        seen.add(key)


def _parsed_yaml(text: str) -> object:
    loader = _UniqueKeys(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_mapping(path: str | Path) -> object:
    """Parse a JSON or YAML file into plain data; YAML is read safely: no objects are made.

    Raises:
        InvalidInput: when the file is missing, unreadable, or neither JSON nor YAML, has a key twice, or a variable in its
            name is not set.
    """
    try:
        text = Path(expanded(path, "file")).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(str(path), "missing", "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(str(path), "unreadable", str(error)) from None
    try:
        is_json = str(path).endswith(".json")
        return json.loads(text, object_pairs_hook=_unique) if is_json else _parsed_yaml(text)
    except _GivenTwiceError as error:
        raise InvalidInput(str(path), str(error), "this key is given twice") from None
    except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(str(path), "unreadable", f"must be JSON or YAML: {error}") from None
