"""The error for bad input: a single line that names the field, the value and what is allowed."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]
"""Field names and list positions that lead to a value."""

MAX_VALUE_LENGTH = 80
"""Characters of a value that are quoted."""
MAX_TEXT_LENGTH = 240
"""Characters of a text that are quoted: most paths are shorter."""


class InvalidInput(ValueError):  # noqa: N818 (it is the user's input that is wrong, not the program)
    """Bad input from the user. The command line prints it as one line and exits with code 2.

    Args:
        field: dotted name of the setting (`recipe.batch_size`) or a file name.
        value: the value as given.
        allowed: what would have been accepted; it ends the sentence.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: {_shortened(value)}: {' '.join(allowed.split())}")

    def __reduce__(self) -> tuple[Any, ...]:  # the default would pass one argument instead of three
        return type(self), (self.field, self.value, self.allowed)


class InvalidCombination(InvalidInput):
    """Values that may each be right but do not go together. What is said of them names them, and the whole is not quoted."""

    def __str__(self) -> str:
        return f"{self.field}: {' '.join(self.allowed.split())}"


class UnknownKey(InvalidInput):
    """A key that this release does not know."""


class UnreadableImageError(OSError):
    """An image that cannot be read or decoded; the message names it.

    Args:
        message: names the image and says why. A process of torch's data loader hands on a traceback: of several lines,
            the last one is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().splitlines()[-1].rpartition(f"{type(self).__name__}: ")[2])


def validated(model: type[M], data: object, source: str) -> M:
    """`model.model_validate(data)`, with pydantic's report turned into one `InvalidInput` line.

    Args:
        model: the pydantic class to build.
        data: plain data as read from a file: lists, dicts, strings and numbers.
        source: name of the file, which precedes the field in the message.

    Raises:
        InvalidInput: naming the first wrong field, and for an unknown key the nearest valid one.
    """
    if not isinstance(data, dict):
        raise InvalidInput(source, data, f"must be a mapping with the keys {', '.join(_keys(model))}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # An unknown key is the likely cause of a missing one: report it first.
        details = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")[0]
        location = details["loc"]
        shown = ".".join(_location_in_file(model, location))
        field = f"{source}: {shown}" if shown else source
        if details["type"] == "extra_forbidden":
            keys = _keys(_model_at(model, location[:-1]))
            near = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(keys)}"
            raise UnknownKey(field, location[-1], f"unknown key; {hint}") from None
        if details["type"] == "missing":
            raise InvalidInput(field, "missing", "this key is required") from None
        message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        of_whole = details["type"] in ("value_error", "assertion_error") and isinstance(details["input"], (dict, BaseModel))
        raise (InvalidCombination if of_whole else InvalidInput)(field, details["input"], message) from None


def _flattened_field(model: type[BaseModel]) -> str | None:
    """Name of the field whose own fields are written in place of it in files, as `TaskFile` does."""
    return getattr(model, "FLATTENED", None)


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys that a file may have at the level of a model."""
    flattened = _flattened_field(model)
    keys = [field.alias or name for name, field in model.model_fields.items() if name != flattened]
    return keys if flattened is None else [*_keys(_model_at(model, (flattened,))), *keys]


def _location_in_file(model: type[BaseModel], location: Location) -> list[str]:
    """A location inside `model` as it is written in files: without the names of flattened fields."""
    return [str(part) for number, part in enumerate(location) if part != _flattened_field(_model_at(model, location[:number]))]


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """The pydantic class at a location inside `model`; the nearest one around it if the value there is not a class."""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        pending: list[Any] = [model.model_fields[str(part)].annotation]
        while pending:
            annotation = pending.pop()
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
                break
            pending.extend(get_args(annotation))
    return model


def _shortened(value: object) -> str:
    text = repr(value)
    length = MAX_TEXT_LENGTH if isinstance(value, (str, Path)) else MAX_VALUE_LENGTH
    return text if len(text) <= length else text[: length - 3] + "..."
