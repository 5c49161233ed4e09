"""Objects that settings name as `package.module:name`, so that extensions can live outside this package."""

from __future__ import annotations

import re
import sys
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


def reference_to(named: Any, field: str) -> str:
    """The reference `package.module:name` of a class or function, by which other processes import it.

    Args:
        named: a class or function at the top level of a module that can be imported.
        field: name of the setting, for the error message.

    Raises:
        InvalidInput: when other processes could not import it, with how to make it importable.
    """
    module_name, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    how = f"put it at the top level of a module that workers can import, and name it as {FORM}"
    if not isinstance(module_name, str) or not isinstance(name, str):
        reason = f"is an object without a name, which cannot be sent to workers; write a function that returns it, {how}"
        raise InvalidInput(field, f"an instance of {type(named).__name__}", reason)
    shown = f"{module_name}:{name}"
    if module_name == "__main__":
        raise InvalidInput(field, shown, f"is defined in the script or notebook that runs, which workers do not import; {how}")
    if "." in name or not name.isidentifier():
        raise InvalidInput(field, shown, f"is defined inside of a function or class, where workers cannot find it; {how}")
    if getattr(sys.modules.get(module_name), name, None) is not named:
        raise InvalidInput(field, shown, f"is not what {module_name} has under this name; {how}")
    return shown
