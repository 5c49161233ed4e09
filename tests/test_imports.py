"""The architecture: imports point one way, and a laptop without torch can open a finished sweep."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "explorer"

# Each part of the package, and the parts that it may import. Parts further down may import those above them, never the
# other way round: spec <- plan, cost <- elastic <- data, training <- search <- sweep, production; and
# spec <- ledger <- frontier <- report. All parts may import the
# shared modules, which import no part.
SHARED = {"console", "errors", "files", "file_lock", "storage", "differences", "paths", "references", "training_key"}
ALLOWED = {
    "spec": set(),
    "segment": {"spec"},
    "slots": {"spec"},
    "plan": {"spec", "segment", "slots"},
    "cost": {"spec"},
    "elastic": {"spec", "segment", "plan", "cost"},
    "data": {"spec"},
    "loggers": {"spec"},
    "training": {"spec", "segment", "plan", "cost", "elastic", "data"},
    "ledger": {"spec"},
    "frontier": {"spec", "ledger"},
    "report": {"spec", "ledger", "frontier"},
    "search": {"spec", "segment", "plan", "cost", "elastic", "data", "training", "ledger"},
    "sweep": {"spec", "segment", "plan", "cost", "elastic", "data", "training", "ledger", "frontier", "search", "loggers"},
    "production": {
        "spec",
        "segment",
        "plan",
        "cost",
        "elastic",
        "data",
        "training",
        "sweep",
        "loggers",
    },  # sweep.cluster starts Ray
}
AT_THE_TOP = {"cli", "__init__", "__main__"}
"""May import everything, and are imported by nothing else."""
DATA_FOLDERS = {"search_spaces"}


def part_of(module: str) -> str:
    """`explorer.elastic.model` is of the part `elastic`; `explorer` itself of `__init__`."""
    return [*module.split("."), "__init__"][1]


def imported_modules(source: str) -> Iterator[str]:
    """Modules of this package that a module imports anywhere, inside functions too, but not for type checking alone."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "explorer":
            names = [f"explorer.{alias.name}" for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.split(".")[0] == "explorer")
        pending.extend(ast.iter_child_nodes(node))


def test_the_scan_sees_imports_in_functions_and_skips_those_for_type_checking():
    source = """
from typing import TYPE_CHECKING
import explorer.plan
if TYPE_CHECKING:
    from explorer.sweep.driver import Sweep
def load():
    from explorer.training.task import Task
    from explorer import cli
"""
    assert sorted(imported_modules(source)) == ["explorer.cli", "explorer.plan", "explorer.training.task"]


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part):
    allowed = {part} | ALLOWED[part] | SHARED
    folder = PACKAGE / part
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    violations = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in files
        for module in imported_modules(path.read_text(encoding="utf-8"))
        if part_of(module) not in allowed
    ]
    assert violations == []


@pytest.mark.parametrize("helper", sorted(SHARED))
def test_helpers_import_helpers_only(helper):
    modules = imported_modules((PACKAGE / f"{helper}.py").read_text(encoding="utf-8"))
    assert {part_of(module) for module in modules} <= SHARED


def test_the_table_itself_has_no_cycle():
    order = list(ALLOWED)
    for part, below in ALLOWED.items():
        assert all(order.index(other) < order.index(part) for other in below), part


def test_the_package_consists_of_the_documented_parts():
    parts = {path.stem for path in PACKAGE.glob("*.py")}
    parts |= {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert parts == ALLOWED.keys() | SHARED | AT_THE_TOP | DATA_FOLDERS


def run_without(blocked: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which some packages cannot be imported."""
    block = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and name in {blocked!r}:  # scipy looks for its entry in sys.modules, which must not be None
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Blocked())
for name in {blocked!r}:
    if name != "torch":
        sys.modules[name] = None
"""
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, timeout=1200, check=False)


SPEC_ONLY = ["torch", "ray", "timm", "optuna", "plotly", "pandas", "numpy", "scipy", "sklearn"]


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ("explorer.spec.search_space, explorer.spec.task_file, explorer.spec.schedule", SPEC_ONLY),
        ("explorer, explorer.plan, explorer.ledger", SPEC_ONLY),
        ("explorer.frontier", ["torch", "ray", "timm", "optuna", "plotly", "sklearn"]),
        ("explorer.report.page, explorer.report.compare, explorer.cli", ["torch", "ray", "timm"]),
    ],
)
def test_parts_import_only_the_packages_they_may(modules, blocked):
    done = run_without(blocked, f"import {modules}")
    assert done.returncode == 0, done.stderr


WITH_TORCH = """
def allow(*names):
    for name in names:
        del sys.modules[name]

import explorer.data, explorer.data.contract
assert not [name for name in sys.modules if name.startswith(("explorer.training", "explorer.elastic"))], "data"
import explorer.elastic.model, explorer.training.task
assert "transformers" not in sys.modules, "transformers is imported only for its models"
import explorer.training.loop, explorer.production.run
allow("optuna")
import optuna
optuna.logging.set_verbosity(optuna.logging.DEBUG)
import explorer.search.search, explorer.search.checks, explorer.search.forecast
allow("ray", "plotly", "pandas")
import explorer.sweep.driver
from explorer import Sweep
assert optuna.logging.get_verbosity() == optuna.logging.DEBUG, "the logs of optuna are left as they are"
"""


def test_parts_with_torch_import_only_the_packages_they_may():
    """One after another, from the lowest up, in a single process, since torch takes seconds to import.

    Data needs neither training nor models. Training and production need no optuna, the search needs no pandas, and none of them
    needs ray or plotly. The sweep may import everything.
    """
    done = run_without(["ray", "optuna", "plotly", "pandas"], WITH_TORCH)
    assert done.returncode == 0, done.stderr


def test_every_example_can_be_read_without_torch():
    code = """
from pathlib import Path
from explorer import SearchSpace
from explorer.cli.examples import FOLDER
names = [SearchSpace.load(path).name for path in FOLDER.glob("*.yaml")]
assert "digits" in names, names
"""
    done = run_without(SPEC_ONLY, code)
    assert done.returncode == 0, done.stderr


def test_a_finished_sweep_opens_without_torch_and_ray(tmp_path):
    code = f"""
from pathlib import Path
from tests.report.synthetic import fill
from explorer.ledger import Ledger
ledger = Ledger({str(tmp_path)!r} + "/s")
fill(ledger, 100)
sys.argv = ["explorer", "report", ledger.location, "--out", {str(tmp_path)!r} + "/out"]
from explorer.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert Path({str(tmp_path)!r}, "out", "index.html").exists()
"""
    done = run_without(["torch", "ray", "timm"], code)
    assert done.returncode == 0, done.stderr


def test_the_status_of_a_sweep_needs_the_ledger_alone(tmp_path):
    code = f"""
from tests.ledger.test_ledger import make_header, make_record
from explorer.ledger import Ledger
ledger = Ledger({str(tmp_path)!r} + "/s")
ledger.create(make_header())
ledger.append(make_record())
sys.argv = ["explorer", "status", ledger.location]
from explorer.cli import main
main()
"""
    done = run_without(SPEC_ONLY, code)
    assert done.returncode == 0, done.stderr
    assert "finished  1 of 4 trials: 1 completed, 0 failed" in done.stdout
