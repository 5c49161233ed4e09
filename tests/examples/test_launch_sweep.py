"""The script that people copy to launch a sweep, run as they run it."""

import runpy
import sys
from pathlib import Path

import pytest

from explorer import Schedule
from explorer.ledger import Ledger
from tests.conftest import TINY_SPACE
from tests.docs.conftest import finished, folder  # noqa: F401 (fixtures)

SCRIPT = Path(__file__).parents[2] / "examples" / "launch_sweep.py"


@pytest.fixture
def launch(tmp_path, monkeypatch, capsys):
    """Run the script in a folder of the test: it returns what was printed."""

    def run(*options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_it_reports_a_finished_sweep_and_saves_a_schedule(folder, launch):  # noqa: F811
    """No trial is left, so that Ray is not started."""
    printed = launch("--space", "search_spaces/digits.yaml", "--storage", "sweeps", "--budget", "40%")
    assert "page: " in printed
    assert (folder / "reports" / "digits" / "index.html").exists()
    assert str(Schedule.load("best.json").provenance.budget) == "40%"


@pytest.mark.nightly
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own warnings are not ours
def test_it_sweeps_reports_and_saves_a_schedule(local_ray, launch, tmp_path):
    space = TINY_SPACE.replace("epochs: 2", "epochs: 1").replace("[25%, 50%]", "[50%]").replace("trials: 2", "trials: 1")
    (tmp_path / "space.yaml").write_text(space)
    printed = launch("--space", "space.yaml", "--storage", "storage", "--budget", "50%")
    assert "page: " in printed
    assert (tmp_path / "reports" / "tiny" / "index.html").exists()
    assert len(Ledger(tmp_path / "storage" / "tiny").records()) == 2
    assert str(Schedule.load("best.json").provenance.budget) == "50%"
