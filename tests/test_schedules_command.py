"""Known schedules on the command line, as users name them."""

import json

import pytest
import yaml

from explorer import Schedule
from tests.conftest import TINY_MODEL
from tests.test_cli import assert_refused, explorer  # noqa: F401 (a fixture)


@pytest.fixture
def task(tmp_path):
    path = tmp_path / "task.yaml"
    recipe = {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3}
    path.write_text(yaml.safe_dump({"model": TINY_MODEL, "data": {"name": "digits", "image_size": 8}, "recipe": recipe}))
    return path


def test_they_are_listed_with_their_sources_and_can_be_written(explorer, tmp_path):  # noqa: F811
    listed = explorer("schedules")
    assert listed.returncode == 0
    assert listed.stdout.count("source:") == listed.stdout.count("measured:") == 6
    shown = explorer("schedules", "efficienttrain-like", "--out", tmp_path / "s.yaml")
    assert "magnitude" in shown.stdout
    assert "token_policy resize" in shown.stdout
    assert Schedule.load(tmp_path / "s.yaml") == Schedule.preset("efficienttrain-like", "")
    assert_refused(explorer("schedules", "papers"), "known schedules are paper,", "did you mean 'paper'")
    assert_refused(explorer("schedules", "--out", tmp_path / "s.yaml"), "needs the name of a schedule")


def test_plan_and_train_need_no_sweep(explorer, task, tmp_path):  # noqa: F811
    planned = explorer("plan", "--schedule", "paper", "--task", task, "--budget", "10%")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert [line.split()[0] for line in planned.stdout.splitlines() if line.strip()[:1].isdigit()][:3] == ["1", "2", "3"]
    trained = explorer("train", "--schedule", "paper", "--task", task, "--budget", "10%", "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["planned_flops"] == result["realised_flops"]
    assert_refused(explorer("plan", "--schedule", "papre", "--task", task, "--budget", "10%"), "did you mean 'paper'")


def test_epochs_are_shown_as_they_are_planned(explorer, task, tmp_path):  # noqa: F811
    path = Schedule.preset("paper", "", (0.1, 0.1, 0.1)).save(tmp_path / "epochs.yaml")
    planned = explorer("plan", "--schedule", path, "--task", task, "--budget", "10%")
    assert "stages of 0.1, 0.1, 0.1 epochs:" in planned.stdout
    assert "epochs spend the budget (+" in planned.stdout
    refused = explorer("plan", "--schedule", path, "--task", task, "--budget", "5%")
    assert_refused(refused, "schedule: epochs: '0.1, 0.1, 0.1'", "of the budget 5%")


def test_a_share_that_changes_nothing_is_a_warning(explorer, task):  # noqa: F811
    planned = explorer("plan", "--schedule", "autoprog-like", "--task", task, "--budget", "50%")
    assert planned.returncode == 0
    assert planned.stderr.count("which changes nothing") == 2  # no RandAugment, no stochastic depth
    assert "stage 1 magnitude x0.5, drop path x0; stage 2" in planned.stdout
    assert "…" not in planned.stdout  # nothing in the table is cut off
