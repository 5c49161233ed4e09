"""Which modules settings import. Only those of files that a user starts are imported: they are said before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from explorer.errors import InvalidInput
from explorer.references import is_reference, reference_to

MAY_IMPORT = "may import"
"""Marks a field whose value may be a reference, `package.module:name`: `Annotated[str, MAY_IMPORT]`."""


def as_reference(named: Any) -> Any:
    """The reference to a class or function that was given as an object; other values as they are.

    Raises:
        ValueError: when workers could not import it, with how to make it importable.
    """
    if not callable(named):
        return named
    try:
        return reference_to(named, "")
    except InvalidInput as error:
        raise ValueError(f"{error.value}: {error.allowed}") from None


Reference = Annotated[str, BeforeValidator(as_reference), MAY_IMPORT]
"""A field that may be a reference; in Python, the class or function itself."""
MODULES = "modules"
"""Marks a field that names modules: `Annotated[tuple[str, ...], MODULES]`."""


def imports_of(settings: BaseModel) -> dict[str, str]:
    """References and modules in settings, by the dotted names of their fields: `{"data.name": "my_project.data:stripes"}`."""
    return dict(_references(settings, ()))


def imports_line(settings: BaseModel, file: str) -> str | None:
    """What to say before settings are used; `None` if they import nothing.

    Args:
        settings: a task file, a search space or parts of one.
        file: what they are, for the message: `this search space`.
    """
    fields: dict[str, list[str]] = {}
    for field, reference in imports_of(settings).items():
        fields.setdefault(reference.partition(":")[0], []).append(field)
    if not fields:
        return None
    modules = ", ".join(f"{module} ({', '.join(names)})" for module, names in fields.items())
    return f"{file} imports, and so runs, code from outside of this package: {modules}"


def _references(value: object, location: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        flattened = getattr(type(value), "FLATTENED", None)
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            at = location if name == flattened else (*location, field.alias or name)
            if MODULES in field.metadata:
                yield from ((f"{'.'.join(at)}.{number}", module) for number, module in enumerate(inner))
            if MAY_IMPORT in field.metadata:
                for each in inner if isinstance(inner, tuple | list) else (inner,):
                    if isinstance(each, str) and is_reference(each):
                        yield ".".join(at), each
            yield from _references(inner, at)
    elif isinstance(value, tuple | list):
        for number, each in enumerate(value):
            yield from _references(each, (*location, str(number)))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _references(each, (*location, str(key)))
