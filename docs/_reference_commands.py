"""The reference page of the command line, from the definitions of its commands."""

from __future__ import annotations

import re
from inspect import cleandoc

import typer

from explorer.cli import app


def command_line() -> str:
    """A section for each command: its line, what it does, its options."""
    lines = [
        "# Command line",
        "",
        "`explorer COMMAND --help` prints the same. Bad input ends in one line that names the field, the value and what is "
        "allowed, with exit code 2. `explorer --version` prints the version.",
    ]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        required = [f"{one.opts[0]} {one.name.upper()}" for one in options if one.required]
        usage = " ".join(["explorer", name, *(one.name.upper() + "..." * (one.nargs == -1) for one in arguments), *required])
        lines += ["", f"## {name}", "", cleandoc(command.help or ""), "", "```text", f"{usage} [OPTIONS]", "```", ""]
        lines += ["| option | what it does |", "| --- | --- |"]
        for one in (*arguments, *options):
            label = one.name.upper() if one in arguments else ", ".join(one.opts)
            default = "<br>required" if one.required else "" if one.default in (None, False) else f"<br>`{one.default}`"
            lines.append(f"| `{label}`{default} | {cell(one.help or '')} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text of several lines in one cell of a table."""
    words = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", words)  # not within code, where it stands for itself
