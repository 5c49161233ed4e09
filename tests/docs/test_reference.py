"""The committed reference pages are those that the code gives."""

import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

pytest.importorskip("griffe", reason="pip install 'vit-budget-explorer[docs]'")


def test_reference_pages_are_up_to_date():
    command = [sys.executable, str(ROOT / "docs" / "_reference.py"), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
