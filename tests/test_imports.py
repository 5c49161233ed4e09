"""The architecture: imports point one way, and a laptop without torch can open a finished sweep."""

import subprocess
import sys

import pytest


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
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ("explorer, explorer.plan, explorer.ledger", ["torch", "ray", "timm", "optuna", "plotly", "pandas", "numpy"]),
        ("explorer.frontier", ["torch", "ray", "timm", "optuna", "plotly", "sklearn"]),
        ("explorer.report.page, explorer.report.compare, explorer.cli", ["torch", "ray", "timm"]),
        ("explorer.training.loop, explorer.production.run", ["ray", "optuna", "plotly", "pandas"]),
        ("explorer.spec.search_space", ["ray", "optuna", "plotly"]),
    ],
)
def test_layers_import_only_what_they_may(modules, blocked):
    done = run_without(blocked, f"import {modules}")
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
