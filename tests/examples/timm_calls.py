"""What timm's train.py calls of timm, in the order of its source, to see what another train.py does differently.

    python tests/examples/timm_calls.py train.py > tests/examples/timm_calls.json

Keep the record's fields that are not in the file: the commit, timm's version, and the date on which it was tried.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

OBJECTS = ("task", "saver", "lr_scheduler", "optimizer", "loss_scaler", "loader", "trainable_module")
"""Names that train.py gives to what timm's functions return, whose methods are recorded too."""
LOGGING = ("is_primary", "AverageMeter")
"""What train.py calls for its log."""


def calls(source: str) -> dict[str, list[str]]:
    """Calls of timm in each function, as `name(_, keyword=, **)`, with `_` for each positional argument."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "timm"
        for alias in node.names
    }
    found = {}
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            nodes = sorted(
                (node.lineno, node.col_offset, _call(node)) for node in ast.walk(function) if isinstance(node, ast.Call)
            )
            found[function.name] = [
                text for *_, text in nodes if root(text) in imported | set(OBJECTS) and name(text) not in LOGGING
            ]
    return {name: texts for name, texts in found.items() if texts}


def options(source: str) -> list[str]:
    """Names of the script's options, as attributes of its arguments."""
    named = [
        [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _dotted(node.func).endswith("add_argument")
    ]
    long = [next((name for name in names if name.startswith("--")), names[0]) for names in named if names]
    return sorted({name.lstrip("-").replace("-", "_") for name in long})


def name(call: str) -> str:
    """`CheckpointSaver` of `utils.CheckpointSaver(model=)`."""
    return call.partition("(")[0].rpartition(".")[2]


def root(call: str) -> str:
    """`utils` of `utils.CheckpointSaver(model=)`."""
    return call.partition("(")[0].partition(".")[0]


def _call(node: ast.Call) -> str:
    arguments = ["*" if isinstance(argument, ast.Starred) else "_" for argument in node.args]
    arguments += ["**" if keyword.arg is None else f"{keyword.arg}=" for keyword in node.keywords]
    return f"{_dotted(node.func)}({', '.join(arguments)})"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def digest(source: str) -> str:
    """SHA-256 of a file's text."""
    return hashlib.sha256(source.encode()).hexdigest()


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    record = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    record |= {"sha256": digest(text), "calls": calls(text), "options": options(text)}
    print(json.dumps(record, indent=1))
