"""The three examples of own tasks, run by their own commands on real Ray; the sweeps are cut down to a few trials."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.ledger import Ledger
from tests.conftest import RAY_SWEEP_MARKS, RAY_SWEEP_SECONDS

pytestmark = [*RAY_SWEEP_MARKS, pytest.mark.nightly]
EXAMPLES = Path("examples/own_task").resolve()
ROOT = EXAMPLES.parents[1]
SMALLER = (
    (r"\[3, 2\]", "[1, 1]"),
    (r"repeat\b(\"?): 1", r"repeat\1: 0"),
    (r"epochs(\"?): \d+", r"epochs\1: 4"),
)


@pytest.fixture
def folder(tmp_path, request):
    """A copy of an example in which sweeps and trainings are short."""
    copy = shutil.copytree(EXAMPLES / request.param, tmp_path / request.param, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*copy.glob("*.yaml"), *copy.glob("sweep.py")]:
        text = file.read_text()
        for pattern, replacement in SMALLER:
            text = re.sub(pattern, replacement, text)
        file.write_text(text)
    return copy


def run(folder: Path, *command: str) -> str:
    """Output of a command in an example's folder, whose modules it may import."""
    path = os.pathsep.join((".", str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RAY_SWEEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return " ".join((done.stdout + done.stderr).split())


def records(folder: Path, name: str):
    ledger = Ledger(folder / "sweeps" / name)
    found = ledger.records()
    assert len(found) == 4  # one trial of each kind at each of two budgets
    assert all(record.outcome for record in found), [record.reason for record in found]
    return ledger.header(), found


@pytest.mark.parametrize("folder", ["multi_label"], indirect=True)
def test_several_labels_from_a_table_with_a_loss_of_ones_own(folder):
    run(folder, "draw_shapes.py", "shapes")
    printed = run(folder, "-m", "explorer", "sweep", "space.yaml")
    assert "runs, code from outside of this package: asymmetric (objective.loss)" in printed
    header, found = records(folder, "shapes")
    assert (header.metric.name, header.inventory.target_kind) == ("mean_average_precision", "labels")
    assert header.inventory.class_names == ("circle", "line", "square")
    assert all(0 < record.outcome.validation < 1 for record in found)
    report = run(folder, "-m", "explorer", "report", "sweeps/shapes")
    assert "of 2 budgets" in report
    page = (folder / "reports" / "shapes" / "index.html").read_text()
    assert "mean average precision" in page
    assert "loss asymmetric:asymmetric_loss" in page
    assert "training images of 3 labels" in page


@pytest.mark.parametrize("folder", ["distillation"], indirect=True)
def test_distillation_with_muon(folder):
    teacher = ("--schedule", "full.yaml", "--task", "teacher.yaml", "--budget", "100%", "--out", "teacher")
    run(folder, "-m", "explorer", "train", *teacher)
    run(folder, "-m", "explorer", "sweep", "space.yaml")
    header, found = records(folder, "distilled-digits")
    assert header.space.task.recipe.optimizer == "muon"
    assert header.space.task.objective.teacher.sha256 is not None
    # The teacher's forward pass is in the cost of every step: half of the heads and channels save less than a half.
    stages = [stage for record in found for stage in record.outcome.stages]
    full = max(stage.step_flops for stage in stages)
    reduced = [stage for stage in stages if stage.rates.heads == stage.rates.mlp == 0.5]
    assert all(0.5 < stage.step_flops / full < 1 for stage in reduced)


@pytest.mark.parametrize("folder", ["fine_tuning"], indirect=True)
def test_fine_tuning_own_weights_on_an_own_data_set_in_python(folder):
    printed = run(folder, "sweep.py")
    assert "head.weight is new: the file has none" in printed
    header, found = records(folder, "handwriting")
    assert header.space.task.data.name == "handwriting:Handwriting"
    assert header.space.task.model.weights_sha256 is not None
    assert header.model_input.channels == 2
    assert len({record.trial.kind for record in found}) == 2
    assert (folder / "best.json").exists()
