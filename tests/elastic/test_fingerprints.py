"""A timm release that changes a class of the tables fails here with the name of the class.

The tables were written for one source text of each class, whose hashes are in timm_classes.json. To accept a change, read it, run
the other tests of this folder, and write the hashes again with `python -m tests.elastic.test_fingerprints`.
"""

import ast
import hashlib
import inspect
import json
import textwrap
from pathlib import Path

import timm

from explorer.elastic.depth import STACKS
from explorer.elastic.image_resizing import RESIZING_SUPPORT
from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.token_dropping import DROP_LOCATIONS

HASHES = Path(__file__).with_name("timm_classes.json")
TABLES = (LAYOUTS, STACKS, RESIZING_SUPPORT, DROP_LOCATIONS)
CLASSES = {f"{kind.__module__}.{kind.__qualname__}": kind for table in TABLES for kind in table}


def fingerprint(kind: type) -> str:
    """Hash of the source of a class without comments, docstrings and whitespace."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def fingerprints() -> dict[str, str]:
    return {name: fingerprint(kind) for name, kind in sorted(CLASSES.items()) if name.startswith("timm.")}


def test_the_source_of_timms_classes_is_the_one_that_the_tables_were_written_for():
    accepted, present = json.loads(HASHES.read_text()), fingerprints()
    assert len(present) > 80
    changed = [name for name in present if accepted["classes"].get(name) != present[name]]
    removed = sorted(set(accepted["classes"]) - set(present))
    assert not changed, (
        f"timm {timm.__version__} is not timm {accepted['timm']}: {', '.join(changed)} changed; see the top of this file"
    )
    assert not removed, f"no longer in a table: {', '.join(removed)}"


def test_a_changed_method_changes_the_fingerprint_and_a_comment_does_not(tmp_path, monkeypatch):
    texts = {
        "one": "class A:\n    '''Doc.'''\n    def f(self):\n        return 1\n",
        "comment": "class A:\n    '''Other.'''\n    def f(self):\n        # why\n        return 1\n",
        "other": "class A:\n    def f(self):\n        return 2\n",
    }
    prints = {}
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in texts.items():
        (tmp_path / f"sample_{name}.py").write_text(text)
        prints[name] = fingerprint(__import__(f"sample_{name}").A)
    assert prints["one"] == prints["comment"] != prints["other"]


if __name__ == "__main__":
    HASHES.write_text(json.dumps({"timm": timm.__version__, "classes": fingerprints()}, indent=1) + "\n")
