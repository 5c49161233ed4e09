"""The script that people copy to launch a sweep, run as they run it."""

import runpy
import sys
from pathlib import Path

import pytest

from explorer import Schedule
from explorer.ledger import Ledger
from tests.conftest import TINY_SPACE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours


def test_it_sweeps_reports_and_saves_a_schedule(local_ray, tmp_path, monkeypatch, capsys):
    script = Path("examples/launch_sweep.py").resolve()
    space = TINY_SPACE.replace("epochs: 2", "epochs: 1").replace("[25%, 50%]", "[50%]").replace("trials: 2", "trials: 1")
    (tmp_path / "space.yaml").write_text(space)
    monkeypatch.chdir(tmp_path)
    storage = str(tmp_path / "storage")
    monkeypatch.setattr(sys, "argv", [str(script), "--space", "space.yaml", "--storage", storage, "--budget", "50%"])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert "page: " in printed
    assert (tmp_path / "reports" / "tiny" / "index.html").exists()
    assert len(Ledger(f"{storage}/tiny").records()) == 2
    saved = Schedule.load("best.json")
    assert str(saved.provenance.budget) == "50%"
