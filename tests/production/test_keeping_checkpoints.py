"""Earlier checkpoints beside the last one, and how a user returns to one."""

import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from explorer import InvalidInput, Schedule
from explorer.production import run_folder
from explorer.production.run import Run, train_to_folder
from explorer.production.run_folder import CHECKPOINT, WEIGHTS, space_line
from explorer.training.checkpoint import EARLIER, keep_checkpoint, load_checkpoint
from explorer.training.task import Task
from tests.conftest import quiet
from tests.training.runs import planned

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def run(tiny_task, three_stages, tmp_path):
    plan = planned(tiny_task, three_stages.model_copy(update={"grid": 10}), "20%")
    return Run(task=tiny_task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path / "run", keep_checkpoints=3)


def earlier(run):
    return sorted(int(re.fullmatch(r"step-(\d{8})\.pt", path.name)[1]) for path in (run.out / EARLIER).iterdir())


def test_a_run_returns_to_an_earlier_checkpoint_and_ends_in_the_same_bits(run):
    console = quiet()
    result = train_to_folder(run, console)
    ends = [sum(segment.steps for segment in run.plan.segments[: number + 1]) for number in range(10)]
    assert earlier(run) == ends[6:9]
    assert [load_checkpoint(path)["steps"] for path in sorted((run.out / EARLIER).iterdir())] == ends[6:9]
    assert re.match(r"disk: a checkpoint takes [\d.]+ kB, the run up to [\d.]+ MB; .* are free\n", console.file.getvalue())
    weights = load_file(run.out / WEIGHTS)
    # As the documentation says: copy it to checkpoint.pt, and run the same command.
    shutil.copy(run.out / EARLIER / f"step-{ends[6]:08d}.pt", run.out / CHECKPOINT)
    again = train_to_folder(run, quiet())
    assert again.test == result.test
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(run.out / WEIGHTS).items())
    assert earlier(run) == ends[6:9]
    assert load_checkpoint(run.out / CHECKPOINT)["steps"] == ends[9]


def test_by_default_there_is_one_checkpoint(run):
    console = quiet()
    train_to_folder(replace(run, keep_checkpoints=0), console)
    assert not (run.out / EARLIER).exists()
    assert "disk" not in console.file.getvalue()


def test_the_oldest_ones_are_removed_and_not_those_of_the_fewest_steps(tmp_path):
    """After a return to step 10, checkpoints of later steps are older than that of step 20."""
    for number, steps in enumerate((30, 40, 10, 20)):
        (tmp_path / "c.pt").unlink(missing_ok=True)
        (tmp_path / "c.pt").write_text(str(steps))
        os.utime(tmp_path / "c.pt", (1e9 + number, 1e9 + number))
        keep_checkpoint(tmp_path / "c.pt", steps, 2)
    kept = sorted((tmp_path / EARLIER).iterdir())
    assert [(path.name, path.read_text()) for path in kept] == [("step-00000010.pt", "10"), ("step-00000020.pt", "20")]
    assert kept[1].samefile(tmp_path / "c.pt")  # no space of its own


@pytest.mark.parametrize(("optimizer", "ema"), [("adamw", None), ("adamw", 0.9), ("sgd", None), ("lion", None)])
def test_the_size_of_a_checkpoint_is_known_before_the_run(tiny_spec, run, optimizer, ema):
    """Against the size of a real one, in which random numbers' states and names take 60 kB more."""
    recipe = tiny_spec.recipe.model_copy(update={"optimizer": optimizer, "ema_decay": ema})
    task = Task(tiny_spec.model_copy(update={"recipe": recipe}))
    plan = planned(task, Schedule.full_model(grid=4), "5%")
    changed = replace(run, task=task.spec, plan=plan)
    train_to_folder(changed, quiet())
    real = (run.out / CHECKPOINT).stat().st_size
    (amount,) = re.findall(r"a checkpoint takes ([\d.]+) kB", space_line(changed, task))
    assert 0 < real - 1000 * float(amount) < 100_000


def test_too_little_room_is_refused_or_said(run, tiny_task, monkeypatch):
    """The disk's free space is the only thing here that is not real."""
    for free, line in ((1e6, "TOO LITTLE"), (1e9, "1.0 GB are free")):
        monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _, free=free: Usage(1e12, 1e12 - free, int(free)))
        assert line in space_line(run, tiny_task)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 1000, 1000))
    with pytest.raises(InvalidInput, match=r"^out: .*has too little room: a checkpoint takes [\d.]+ kB, and 1.0 kB are free$"):
        train_to_folder(run, quiet())
    assert not (run.out / CHECKPOINT).exists()
