"""Paths as users write them: `~` is the home folder, and `$NAME` or `${NAME}` an environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path

from explorer.errors import InvalidInput

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def expanded(path: str | Path, field: str) -> str:
    """The path with `~` and environment variables replaced. URIs may contain variables too.

    Args:
        path: as the user wrote it.
        field: name of the setting, for the error message.

    Raises:
        InvalidInput: when a variable is not set, or there is no such user (`~name`).
    """
    text = str(path)
    for match in VARIABLE.finditer(text):
        name = match[1] or match[2]
        if name not in os.environ:
            raise InvalidInput(field, text, f"the environment variable {name} is not set")
    text = VARIABLE.sub(lambda match: os.environ[match[1] or match[2]], text)
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise InvalidInput(field, str(path), str(error)) from None
