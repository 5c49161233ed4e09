"""The one error for bad input: a single line that names the field, the value and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


class InvalidInput(ValueError):  # noqa: N818 (it is the user's input that is wrong, not the program)
    """Bad input from the user. The command line prints it as one line and exits with code 2.

    Args:
        field: where the value stands, dotted (`recipe.batch_size`) or a file name.
        value: the value as given.
        allowed: what would have been accepted, as the end of the sentence.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: {_short(value)}: {' '.join(allowed.split())}")

    def __reduce__(self) -> tuple[Any, ...]:  # the default would pass one argument to three
        return type(self), (self.field, self.value, self.allowed)


def validated(model: type[M], data: object, source: str) -> M:
    """`model.model_validate(data)`, with pydantic's report turned into one `InvalidInput` line.

    Args:
        model: the pydantic class to build.
        data: what was read from a file: plain lists, dicts, strings and numbers.
        source: the file's name, put before the field.

    Raises:
        InvalidInput: naming the first wrong field; for an unknown key also the nearest valid one.
    """
    if not isinstance(data, dict):
        raise InvalidInput(source, data, f"must be a mapping with the keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # An unknown key is the likely cause of a missing one: report it first.
        found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
        location = found["loc"]
        flattened = getattr(model, "FLATTENED", None)  # its fields stand at the top level of files
        shown = location[1:] if location[:1] == (flattened,) else location
        where = ".".join(str(part) for part in shown)
        if found["type"] == "extra_forbidden":
            fields = list(_model_at(model, location[:-1]).model_fields)
            if flattened in fields:
                fields.remove(flattened)
                fields += _model_at(model, (flattened,)).model_fields
            near = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(fields)}"
            raise InvalidInput(f"{source}: {where}", location[-1], f"unknown key; {hint}") from None
        if found["type"] == "missing":
            raise InvalidInput(f"{source}: {where}", "missing", "this key is required") from None
        message = found["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        raise InvalidInput(f"{source}: {where}" if where else source, found["input"], message) from None


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The pydantic class that stands at `location` (field names and list positions) inside `model`."""
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


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
