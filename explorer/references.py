"""Objects that settings name as `package.module:name`, so that extensions can live outside this package."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any

from explorer.errors import InvalidInput

FORM = "package.module:name"


def is_reference(text: str) -> bool:
    """True for `package.module:name`, whether there is such an object or not."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text) is not None


def load_reference(reference: str, field: str) -> Any:
    """Import the object that `package.module:name` refers to.

    Args:
        reference: the module's dotted name, a colon, and the name of an object in the module.
        field: name of the setting, for the error message.

    Raises:
        InvalidInput: when the module cannot be imported or has no such object.
    """
    if not is_reference(reference):
        raise InvalidInput(field, reference, f"must have the form {FORM}")
    module_name, _, name = reference.partition(":")
    module = import_user_module(module_name, field, reference)
    if not hasattr(module, name):
        raise InvalidInput(field, reference, f"the module {module_name} has no {name!r}")
    return getattr(module, name)


def import_user_module(module_name: str, field: str, given: str) -> ModuleType:
    """Import a module that a setting names.

    Args:
        module_name: dotted name.
        field: name of the setting, for the error message.
        given: value of the setting, for the error message.

    Raises:
        InvalidInput: when it cannot be imported, for whatever reason.
    """
    try:
        return import_module(module_name)
    except (Exception, SystemExit) as error:  # a module of the user's may fail in any way when it is imported
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "; install its package or add its folder to PYTHONPATH, on every machine that trains"
        reason = f"{type(error).__name__}: {error}"
        raise InvalidInput(field, given, f"{module_name} cannot be imported: {reason}{hint}") from error
