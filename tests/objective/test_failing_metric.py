"""A metric of the user's that fails after it passed the tiny batch: in evaluations during training, at their end, in commands."""

import math
import sys

import pytest
import torch
import yaml

from explorer import cli
from explorer.production.result import RESULT
from explorer.production.run_folder import WEIGHTS
from explorer.training.distributed import Processes
from explorer.training.evaluation import NotMeasuredError, check_measured, evaluated, evaluated_in_training, measured
from explorer.training.metrics import Measure
from explorer.training.task import Task
from tests.conftest import TINY_MODEL
from tests.objective import sources
from tests.objective.sources import Means
from tests.objective.sweeps import space_of, swept
from tests.objective.test_losses import SOURCES, task_spec

CPU = torch.device("cpu")
REASON = "fails on the {split} images: ZeroDivisionError: division by zero"


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr(sources.fragile, "broken", True)


@pytest.mark.parametrize("objective", [{"metric": f"{SOURCES}:fragile"}, {"metric": "mae", "also": f"{SOURCES}:fragile"}])
def test_the_end_says_which_metric_fails_and_why(broken, objective):
    task = Task(task_spec(loss="huber", **objective))
    task.check()
    with pytest.raises(NotMeasuredError, match=f"^fragile {REASON.format(split='test')}$"):
        evaluated(Means(), task, "test", CPU)


def test_in_training_it_is_nan_with_a_warning_and_the_other_metric_has_its_value(broken):
    task = Task(task_spec(loss="huber", metric=f"{SOURCES}:fragile", also="mae"))
    with pytest.warns(UserWarning, match=f"^fragile {REASON.format(split='validation')}; training continues$"):
        fragile, mae = evaluated_in_training(Means(), task, CPU)
    assert math.isnan(fragile)
    assert mae == evaluated(Means(), Task(task_spec(loss="huber", metric="mae")), "validation", CPU).values[0]


def test_r2_of_a_single_image_fails_with_its_reason():
    measure = Measure("r2", {}, "values", 2, None, "f")
    result = measured(Means(), [(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2))], [measure], CPU, None)
    with pytest.raises(NotMeasuredError, match=r"^R2 fails on the test images: ValueError: R2 needs two images or more$"):
        check_measured([measure], result, "test")


def test_an_error_in_another_process_is_that_of_all():
    class TwoProcesses(Processes):
        def all_gather(self, value):
            return [value, "ValueError: on the other one"]

    measure = Measure(f"{SOURCES}:worst_error", {}, "values", 2, None, "f")
    result = measured(Means(), [(torch.zeros(2, 1, 8, 8), torch.zeros(2, 2))], [measure], CPU, None, TwoProcesses())
    assert math.isnan(result.values[0])
    assert result.failures == ("ValueError: on the other one",)


def test_memory_that_runs_out_is_no_fault_of_the_metric(monkeypatch):
    def out_of_memory(outputs, targets):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(out_of_memory, "direction", "maximize", raising=False)
    monkeypatch.setattr(sources, "out_of_memory", out_of_memory, raising=False)
    with pytest.raises(torch.OutOfMemoryError):
        evaluated(Means(), Task(task_spec(loss="huber", metric=f"{SOURCES}:out_of_memory")), "test", CPU)


def test_a_trial_fails_with_the_reason(broken, tmp_path):
    space = space_of("Brightness", {"loss": "huber", "metric": "mae", "also": f"{SOURCES}:fragile"}, trials=1, repeat=0)
    records = swept(space.model_copy(update={"budgets": space.budgets[:1]}), tmp_path / "fragile").records()
    assert {record.status for record in records} == {"failed"}
    assert all(REASON.format(split="validation") in record.reason for record in records)


def test_explorer_train_ends_in_one_line_and_resumes_once_the_metric_works(monkeypatch, tmp_path, capsys):
    task = tmp_path / "task.yaml"
    content = {"model": TINY_MODEL, "data": {"name": f"{SOURCES}:Brightness", "image_size": 8}}
    content["recipe"] = {"epochs": 1, "batch_size": 32, "learning_rate": 2e-3, "compile": False}
    content["objective"] = {"loss": "huber", "metric": "mae", "also": f"{SOURCES}:fragile"}
    task.write_text(yaml.safe_dump(content))
    words = ["explorer", "train", "--schedule", "full", "--task", task, "--budget", "100%", "--out", tmp_path / "run"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))

    def ended():
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, capsys.readouterr()

    monkeypatch.setattr(sources.fragile, "broken", True)
    code, (_, told) = ended()
    assert code == 1
    assert told.splitlines()[-1] == (
        f"explorer: fragile {REASON.format(split='validation')}; the same command resumes at 100% from "
        f"{tmp_path / 'run' / 'checkpoint.pt'}"
    )
    assert "Traceback" not in told
    monkeypatch.setattr(sources.fragile, "broken", False)
    assert ended()[0] == 0
    assert (tmp_path / "run" / WEIGHTS).exists()
    assert (tmp_path / "run" / RESULT).exists()
