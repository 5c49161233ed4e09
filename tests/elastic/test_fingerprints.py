"""A timm release that changes a class of the table fails here with the class's name.

The rows were written for one source text of each class, whose hashes are in timm_classes.json. After reading what changed and
running the other tests of this folder: `python -m tests.elastic.test_fingerprints` writes the hashes anew.
"""

import ast
import hashlib
import inspect
import json
import textwrap
from pathlib import Path

import timm

from explorer.elastic.depth import STACKS
from explorer.elastic.image_resizing import SMALLER
from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.token_dropping import PLACES

KEPT = Path(__file__).with_name("timm_classes.json")
CLASSES = {f"{kind.__module__}.{kind.__qualname__}": kind for table in (LAYOUTS, STACKS, SMALLER, PLACES) for kind in table}


def fingerprint(kind: type) -> str:
    """Hash of a class's source without comments, docstrings and layout."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def fingerprints() -> dict[str, str]:
    # Classes of our own in the table are not timm's to change.
    return {name: fingerprint(kind) for name, kind in sorted(CLASSES.items()) if name.startswith("timm.")}


def test_timms_classes_are_the_ones_that_the_tables_were_written_for():
    kept, found = json.loads(KEPT.read_text()), fingerprints()
    assert len(found) > 80
    changed = [name for name in found if kept["classes"].get(name) != found[name]]
    gone = sorted(set(kept["classes"]) - set(found))
    assert not changed, (
        f"timm {timm.__version__} is not timm {kept['timm']}: {', '.join(changed)} changed; see this file's first lines"
    )
    assert not gone, f"no longer in a table: {', '.join(gone)}"


def test_a_changed_class_has_another_fingerprint_and_a_comment_does_not_count(tmp_path, monkeypatch):
    texts = {
        "one": "class A:\n    '''Doc.'''\n    def f(self):\n        return 1\n",
        "comment": "class A:\n    '''Other.'''\n    def f(self):\n        # why\n        return 1\n",
        "other": "class A:\n    def f(self):\n        return 2\n",
    }
    found = {}
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in texts.items():
        (tmp_path / f"sample_{name}.py").write_text(text)
        found[name] = fingerprint(__import__(f"sample_{name}").A)
    assert found["one"] == found["comment"] != found["other"]


if __name__ == "__main__":
    KEPT.write_text(json.dumps({"timm": timm.__version__, "classes": fingerprints()}, indent=1) + "\n")
