"""The base class of everything that is read from files, and how files are parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def renamed(data: Any, names: Mapping[str, str]) -> Any:
    """The content of a file of an earlier release under today's names; anything but a mapping is returned as it is.

    Args:
        data: the content.
        names: today's name of each former one.
    """
    if not isinstance(data, dict):
        return data
    return {names.get(name, name) if names.get(name) not in data else name: value for name, value in data.items()}


def read_mapping(path: str | Path) -> object:
    """Parse a JSON or YAML file into plain data; YAML is read with `safe_load`.

    Raises:
        InvalidInput: when the file is missing, unreadable, or neither JSON nor YAML, or a variable in its name is not set.
    """
    try:
        text = Path(expanded(path, "file")).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(str(path), "missing", "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(str(path), "unreadable", str(error)) from None
    try:
        return json.loads(text) if str(path).endswith(".json") else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(str(path), "unreadable", f"must be JSON or YAML: {error}") from None
