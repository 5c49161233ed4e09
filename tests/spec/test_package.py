"""The package of specifications: what it offers, and what it may not import."""

import subprocess
import sys

import explorer.spec


def test_public_names_exist():
    assert all(hasattr(explorer.spec, name) for name in explorer.spec.__all__)


def test_it_imports_no_heavy_package():
    code = "import explorer.spec, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "ray", "pandas", "numpy", "optuna", "plotly"} & set(done.stdout.split())
