"""A disk that fills up costs neither the training nor the last good checkpoint. Here the limit is on the size of files."""

import csv
import resource
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from explorer.production.loggers import METRICS
from explorer.production.result import RESULT
from explorer.production.run import Run, train_to_folder
from explorer.production.run_folder import WEIGHTS
from explorer.training import saved_state
from explorer.training.checkpoint import load_checkpoint
from explorer.training.errors import TrainingError
from tests.conftest import quiet
from tests.loggers.event_files import read_events
from tests.training.runs import planned


def limit(size=None):
    """Let writing beyond a size fail, with EFBIG, from now on; `None` ends it."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@contextmanager
def limited(size):
    limit(size)
    try:
        yield
    finally:
        limit()


def run_of(task, plan, out):
    return Run(task=task.spec, plan=plan, seed=0, threads=1, device="cpu", out=out, evaluate_every=0.3)


def assert_same_weights(one, other):
    first, second = (load_file(folder / WEIGHTS) for folder in (one, other))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_training_continues_while_nothing_can_be_written_and_catches_up(tiny_task, three_stages, tmp_path, monkeypatch):
    """From the fifth to the eighth segment nothing can be written, neither checkpoint nor metrics nor progress."""
    plan = planned(tiny_task, three_stages, "20%")
    train_to_folder(run_of(tiny_task, plan, tmp_path / "straight"), quiet())
    save, out, console, kept = saved_state.save_checkpoint, tmp_path / "full", quiet(), []

    def save_on_full_disk(path, content):
        number = len(content["segments"])
        limit(100 if 5 <= number <= 8 else None)
        try:
            save(path, content)
        finally:
            if 6 <= number <= 8:
                kept.append(len(load_checkpoint(path)["segments"]))

    monkeypatch.setattr(saved_state, "save_checkpoint", save_on_full_disk)
    try:
        result = train_to_folder(run_of(tiny_task, plan, out), console)
    finally:
        limit()
    assert kept == [4, 4, 4]
    printed = console.file.getvalue().splitlines()
    for name in ("the checkpoint", METRICS, "TensorBoard's file"):
        assert sum(f"{name} cannot be written: File too large; training continues" in line for line in printed) == 1
    assert_same_weights(tmp_path / "straight", out)
    rows = [list(csv.DictReader((folder / METRICS).open())) for folder in (tmp_path / "straight", out)]
    assert [(row["step"], row["loss"], row["validation_accuracy"]) for row in rows[0]] == [
        (row["step"], row["loss"], row["validation_accuracy"]) for row in rows[1]
    ]
    assert [event[:2] for event in read_events(out)] == [event[:2] for event in read_events(tmp_path / "straight")]
    assert len(load_checkpoint(out / "checkpoint.pt")["segments"]) == len(plan.segments)
    assert not list(out.glob("*.tmp"))
    assert result.steps == plan.steps


def test_results_that_cannot_be_written_are_written_by_the_same_command(tiny_task, three_stages, tmp_path, monkeypatch):
    """After the last checkpoint, files of more than 50 kB cannot be written: the weights have 100 kB."""
    plan = planned(tiny_task, three_stages, "5%")
    save = saved_state.save_checkpoint

    def save_then_fill_disk(path, content):
        save(path, content)
        if len(content["segments"]) == len(plan.segments):
            limit(50_000)

    monkeypatch.setattr(saved_state, "save_checkpoint", save_then_fill_disk)
    try:
        with pytest.raises(TrainingError, match=r"^the results cannot be written into .*: File too large; make room for them$"):
            train_to_folder(run_of(tiny_task, plan, tmp_path / "full"), quiet())
    finally:
        limit()
    assert not (tmp_path / "full" / RESULT).exists()
    monkeypatch.setattr(saved_state, "save_checkpoint", save)
    result = train_to_folder(run_of(tiny_task, plan, tmp_path / "full"), quiet())
    assert result.test == train_to_folder(run_of(tiny_task, plan, tmp_path / "straight"), quiet()).test
    assert_same_weights(tmp_path / "straight", tmp_path / "full")


def test_the_command_ends_in_one_line_and_exit_code_1(explorer, space_file, three_stages, tmp_path):
    """No checkpoint can be written at all, nor the weights."""
    schedule = three_stages.save(tmp_path / "schedule.json")
    words = ("train", "--schedule", schedule, "--task", space_file, "--budget", "5%", "--out", tmp_path / "run")
    with limited(50_000):
        done = explorer(*words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"explorer: the results cannot be written into {tmp_path / 'run'}: File too large; make room for them; "
    )
    assert line.endswith("there is no checkpoint yet, so the same command starts from the beginning")
    assert done.stdout.count("the checkpoint cannot be written") == 1
