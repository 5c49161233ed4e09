"""Known schedules on the command line, as users name them."""

import json

import pytest
import yaml

from explorer import Schedule, SearchSpace
from explorer.ledger import Ledger
from tests.conftest import TINY_MODEL, with_search
from tests.search.test_reuse import started, trained
from tests.sweep.test_earlier_sweeps import search_of
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
    assert listed.stdout.count("source:") == listed.stdout.count("measured:") == 7
    shown = explorer("schedules", "efficienttrain-like", "--out", tmp_path / "s.yaml")
    assert "magnitude" in shown.stdout
    assert "token_policy resize" in shown.stdout
    assert Schedule.load(tmp_path / "s.yaml") == Schedule.preset("efficienttrain-like", "")
    assert_refused(explorer("schedules", "papers"), "known schedules are paper,", "did you mean 'paper'")
    assert_refused(explorer("schedules", "paper", "--model", "deit_smal", "--out", tmp_path / "t.yaml"), "no such model")
    assert not (tmp_path / "t.yaml").exists()
    assert_refused(explorer("schedules", "--out", tmp_path / "s.yaml"), "needs the name of a schedule")
    assert_refused(explorer("schedules", "--model", "pvt_v2_b0"), "model", "pvt_v2_b0", "needs the name of a schedule")


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


def test_what_the_sweeps_of_a_storage_found_is_listed_and_can_be_written(explorer, space_file, tmp_path):  # noqa: F811
    storage = tmp_path / "sweeps"
    assert f"no sweep in {storage} has a finished staged trial yet" in explorer("schedules", "--storage", storage).stdout
    space = with_search(SearchSpace.load(space_file), trials=4)
    search_of(storage, space, "mine")
    started(storage, space, "empty")
    old = started(storage, space, "old")
    header = storage / "old" / "sweep.json"
    header.write_text(header.read_text().replace('"version": 2', '"version": 1'))
    listed = explorer("schedules", "--storage", storage)
    assert listed.returncode == 0
    lines = [line.split() for line in listed.stdout.splitlines() if line.startswith(("mine:", "empty:", "old:"))]
    # The accuracies of a sweep made by hand rise by a point with each trial: the third trial has 12 %, the eighth 17 %.
    assert [(line[0], *line[1:6]) for line in lines] == [
        ("mine:25%", "vit_tiny_patch16_224", "on", "digits", "accuracy", "12.00%"),
        ("mine:50%", "vit_tiny_patch16_224", "on", "digits", "accuracy", "17.00%"),
    ]
    assert f"{old.location} is left out" in listed.stderr
    best = Ledger(f"{storage}/mine").record_of("50pct-staged-002").trial
    shown = explorer("schedules", "mine:50%", "--storage", storage, "--out", tmp_path / "s.json")
    assert "mine:50%: test accuracy 17.00% (one seed) for 0.4" in shown.stdout
    saved = Schedule.load(tmp_path / "s.json")
    assert saved.stages == best.schedule.stages
    assert (saved.provenance.trial, saved.provenance.learning_rate) == (best.id, best.learning_rate)
    refused = explorer("schedules", "mine:30%", "--storage", storage)
    assert_refused(refused, "schedule: 'mine:30%'", "the sweep has staged schedules at 25%, 50%")
    assert_refused(explorer("schedules", "empty:30%", "--storage", storage), "has no finished staged trial")
    assert_refused(explorer("schedules", "none:30%", "--storage", storage), "sweep: 'none': no sweep there")


def test_a_schedule_of_a_proxy_is_written_without_settings_that_do_not_transfer(explorer, space_file, tmp_path):  # noqa: F811
    space_file.write_text(space_file.read_text().replace("search:", "proxy: {images: 0.5}\nsearch:"))
    search_of(tmp_path, SearchSpace.load(space_file), "mine", count=1)
    assert "digits, proxy 1" in explorer("schedules", "--storage", tmp_path).stdout
    shown = explorer("schedules", "mine:25%", "--storage", tmp_path, "--out", tmp_path / "s.json")
    assert "on proxy 1, without settings that do not transfer" in shown.stdout
    assert Schedule.load(tmp_path / "s.json").provenance is None


def test_a_sweep_starts_from_another_one_by_option(explorer, space_file, tmp_path):  # noqa: F811
    storage = tmp_path / "sweeps"
    space = SearchSpace.load(space_file)
    search_of(storage, space, "A", count=1)
    planned = explorer("sweep", space_file, "--storage", storage, "--from", "A", "--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    taken = "search.from: A: 25pct-staged-000 is tried at 25%: with its learning rate and batch size"
    assert taken in planned.stdout.splitlines()
    assert not (storage / "tiny").exists()
    refused = explorer("sweep", space_file, "--storage", storage, "--from", "A", "--from", "B", "--dry-run")
    assert_refused(refused, "search.from: 'B': no sweep there")


def test_the_status_of_a_sweep_counts_warm_starts_and_reused_trials(explorer, space_file, tmp_path):  # noqa: F811
    space = SearchSpace.load(space_file)
    of_other = {"sweep": "A", "trial": "25pct-staged-000"}
    ledger = search_of(tmp_path, space, "B", count=3)
    record = ledger.records()[0]
    trial = type(record.trial).model_validate({**record.trial.model_dump(), "id": "25pct-staged-007", "from_sweep": of_other})
    trained(ledger, space, trial, reused_from=trial.from_sweep)
    printed = explorer("status", ledger.location).stdout
    assert "1 of them are warm starts from other sweeps (A: 1)" in printed
    assert "1 of them have results reused from other sweeps (A: 1)" in printed
