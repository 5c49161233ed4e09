"""The architecture: imports point one way, and a laptop without torch can open a finished sweep."""

import subprocess
import sys

import pytest


def run_without(blocked: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which some packages cannot be imported."""
    block = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ("explorer, explorer.plan, explorer.ledger", ["torch", "ray", "timm", "optuna", "plotly", "pandas", "numpy"]),
        ("explorer.frontier", ["torch", "ray", "timm", "optuna", "plotly", "sklearn"]),
        ("explorer.report.page, explorer.cli", ["torch", "ray", "timm", "optuna", "sklearn"]),
        ("explorer.training.loop, explorer.production.run", ["ray", "optuna", "plotly", "pandas"]),
        ("explorer.sweep.space", ["ray", "optuna", "plotly"]),
    ],
)
def test_layers_import_only_what_they_may(modules, blocked):
    done = run_without(blocked, f"import {modules}")
    assert done.returncode == 0, done.stderr


def test_a_finished_sweep_opens_without_torch_and_ray(tmp_path):
    code = f"""
from pathlib import Path
from tests.test_ledger import make_header, make_record
from explorer.ledger import Ledger
ledger = Ledger({str(tmp_path)!r} + "/s")
ledger.create(make_header())
ledger.append(make_record())
sys.argv = ["explorer", "report", ledger.location, "--out", {str(tmp_path)!r} + "/out"]
from explorer.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert Path({str(tmp_path)!r}, "out", "index.html").exists()
"""
    done = run_without(["torch", "ray", "timm", "optuna", "sklearn"], code)
    assert done.returncode == 0, done.stderr
