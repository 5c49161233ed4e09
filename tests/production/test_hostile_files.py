"""Files that somebody sent never import or execute anything: ledgers, schedules, and folders of trained models.

Each names `hostile_module`, which can be imported here and writes a file when it is. Only search spaces and task files that the
user starts import what they name.
"""

import json
import shutil
import sys

import pytest
import yaml

from explorer.ledger import Ledger
from explorer.production.model_folder import MODEL
from explorer.spec.data import DataSpec
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from tests.conftest import TINY_SPACE
from tests.production.finished_runs import measured_provenance
from tests.report.synthetic import fill

MODULE = "hostile_module"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Whether the module was imported."""
    marker = tmp_path / "executed"
    folder = tmp_path / "importable"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(marker)!r}).write_text('')\ndef anything(spec, *_):\n    raise RuntimeError('ran')\n"
    (folder / f"{MODULE}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    yield lambda: marker.exists() or MODULE in sys.modules
    sys.modules.pop(MODULE, None)


@pytest.fixture
def sweep(tmp_path):
    """A finished sweep whose search space names the module everywhere, in a storage of its own."""
    ledger = Ledger(tmp_path / "sent" / "large")
    fill(ledger, 60)
    path = tmp_path / "sent" / "large" / "sweep.json"
    header = json.loads(path.read_text())
    header["space"]["data"] = DataSpec(name=f"{MODULE}:anything", image_size=8).model_dump(mode="json")
    header["space"]["search"]["sampler"] = f"{MODULE}:anything"
    path.write_text(json.dumps(header))
    assert Ledger(tmp_path / "sent" / "large").header().space.task.data.name == f"{MODULE}:anything"
    return tmp_path / "sent" / "large"


@pytest.fixture
def own_space(tmp_path):
    """The user's own search space, which imports nothing."""
    path = tmp_path / "own.yaml"
    path.write_text(TINY_SPACE)
    return path


def hostile_schedule(tmp_path, own_space):
    """A schedule whose provenance names the module."""
    task = SearchSpace.load(own_space).task
    task = task.model_copy(update={"data": DataSpec(name=f"{MODULE}:anything", image_size=8)})
    schedule = Schedule.full_model().model_copy(update={"provenance": measured_provenance(task)})
    return schedule.save(tmp_path / "sent.json")


def test_the_module_would_be_imported_by_a_space_that_the_user_starts(executed, explorer, own_space):
    """Otherwise the tests below would show nothing. The command says so before it does."""
    content = yaml.safe_load(own_space.read_text())
    content["data"] = {"name": f"{MODULE}:anything", "image_size": 8}
    own_space.write_text(yaml.safe_dump(content))
    for command in (
        ["plan", "--schedule", "paper", "--budget", "25%", "--task", own_space],
        ["sweep", own_space, "--dry-run"],
        ["data", own_space],
        ["cache", own_space],
    ):
        done = explorer(*command)
        assert done.returncode == 2, done.stderr
        said = f"this search space imports, and so runs, code from outside of this package: {MODULE} (data.name)"
        assert done.stdout.splitlines()[0] == said
    assert executed()


def test_a_ledger_is_read_without_importing_what_it_names(executed, explorer, sweep, tmp_path):
    for command in (
        ["report", sweep, "--out", tmp_path / "page"],
        ["best", sweep, "--budget", "20%", "--out", tmp_path / "best.json"],
        ["status", sweep],
        ["schedules", "--storage", sweep.parent],
        ["schedules", "large:20%", "--storage", sweep.parent, "--out", tmp_path / "kept.json"],
    ):
        done = explorer(*command)
        assert (done.returncode, executed()) == (0, False), (command, done.stderr)


def test_a_sweep_of_ones_own_beside_it_or_from_it_imports_nothing(executed, explorer, sweep, own_space, tmp_path):
    """Starting from it, reusing what it trained, and resuming it by its name, which is refused: the settings differ."""
    done = explorer("sweep", own_space, "--storage", sweep.parent, "--from", "large", "--dry-run")
    assert (done.returncode, executed()) == (0, False), done.stderr
    done = explorer("sweep", own_space, "--storage", sweep.parent, "--name", "large")
    assert (done.returncode, executed()) == (2, False), done.stderr
    assert "large" in done.stderr


def test_a_schedule_is_planned_without_importing_what_it_names(executed, explorer, own_space, tmp_path):
    path = hostile_schedule(tmp_path, own_space)
    done = explorer("plan", "--schedule", path, "--budget", "25%", "--task", own_space)
    assert (done.returncode, executed()) == (0, False), done.stderr
    done = explorer("schedules", path)
    assert not executed()


@pytest.mark.parametrize("place", ["architecture", "model_args", "label_names"])
def test_a_folder_of_a_model_is_evaluated_without_importing_what_it_names(executed, explorer, digits_run, tmp_path, place):
    folder = shutil.copytree(digits_run / MODEL, tmp_path / "received")
    config = json.loads((folder / "config.json").read_text())
    reference = f"{MODULE}:anything"
    config[place] = {"architecture": reference, "model_args": {"norm_layer": reference}, "label_names": [reference] * 10}[place]
    (folder / "config.json").write_text(json.dumps(config))
    done = explorer("evaluate", folder, "--data", "digits")
    assert (done.returncode, executed()) == (2, False), done.stderr
