"""What a run leaves in its folder, also when it is killed on the way."""

import csv
import io
import re
import signal
import struct
import subprocess
import sys
import time

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from explorer import InvalidInput, Schedule
from explorer.production import run as run_module
from explorer.production.loggers import read_metrics
from explorer.production.run import PROGRESS, RESULT, WEIGHTS, BudgetBar, Run, RunStatus, train_to_folder
from explorer.training import loop
from explorer.training.progress import Progress, SegmentResult
from explorer.training.task import Task
from tests.conftest import quiet
from tests.training.test_loop import planned


def terminal() -> Console:
    """A terminal that writes to memory."""
    return Console(file=io.StringIO(), width=120, force_terminal=True, force_interactive=True)


def board(out):
    """What TensorBoard would show: (name, step) to value. A record is a length, its checksum, an Event and a checksum."""
    found = {}
    for path in out.glob("events.out.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
            at += size + 16
    return found


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_in_the_same_bits(three_stages, space_file, tmp_path):
    schedule = three_stages.save(tmp_path / "schedule.json")
    command = [sys.executable, "-m", "explorer", "train", "--schedule", str(schedule), "--task", str(space_file)]
    command += ["--budget", "50%", "--checkpoint-every", "0", "--out"]
    straight = subprocess.run([*command, str(tmp_path / "straight")], capture_output=True, text=True, timeout=200, check=False)
    assert straight.returncode == 0, straight.stderr
    killed = subprocess.Popen([*command, str(tmp_path / "killed")])
    deadline = time.monotonic() + 150
    while len(read_metrics(tmp_path / "killed")) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / RESULT).exists()
    again = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    weights = load_file(tmp_path / "killed" / WEIGHTS)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(tmp_path / "straight" / WEIGHTS).items())


def test_metrics_and_event_files_tell_the_run_also_when_it_goes_on(tiny_task, three_stages, tmp_path, monkeypatch):
    compiled = planned(tiny_task, three_stages)
    run = Run(task=tiny_task.spec, plan=compiled, seed=0, threads=1, device="cpu", out=tmp_path)
    save = loop.save_checkpoint

    def power_cut(path, content):
        save(path, content)
        if len(content["segments"]) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", power_cut)
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(run, quiet())
    monkeypatch.setattr(loop, "save_checkpoint", save)
    result = train_to_folder(run, quiet())

    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == len(compiled.segments) == 20
    assert [float(row["budget_time"]) for row in rows] == pytest.approx([(i + 1) / 20 for i in range(20)], abs=0.03)
    assert [int(float(row["step"])) for row in rows][-1] == compiled.steps == result["steps"]
    assert float(rows[-1]["cost"]) == pytest.approx(result["cost"])
    assert [float(rows[0][axis]) for axis in ("heads", "mlp", "tokens", "depth")] == [0.25, 0.25, 0.25, 1.0]
    shown = board(tmp_path)
    for row in rows:
        assert shown["loss", int(float(row["step"]))] == pytest.approx(float(row["loss"]), rel=1e-6)
    assert shown["test_accuracy", compiled.steps] == pytest.approx(result["test_accuracy"])

    # Run again when it is finished: all of it is drawn again, nothing is lost.
    train_to_folder(run, quiet())
    assert board(tmp_path) == shown
    assert list(csv.DictReader((tmp_path / "metrics.csv").open())) == rows


def test_figures_of_a_run_that_is_started_anew_are_its_own(tiny_task, three_stages, tmp_path):
    for budget in ("50%", "20%"):
        compiled = planned(tiny_task, three_stages, budget)
        train_to_folder(Run(tiny_task.spec, compiled, 0, 1, "cpu", tmp_path), quiet())
        assert max(step for _, step in board(tmp_path)) == compiled.steps
        assert len(read_metrics(tmp_path)) == len(compiled.segments)
        (tmp_path / "checkpoint.pt").unlink()


def test_a_model_with_one_parameter_under_two_names_is_saved_for_plain_timm(tiny_spec, tmp_path):
    """CoaT's blocks of a stage share position encodings."""
    options = {"embed_dims": (16, 32, 32, 32), "serial_depths": (1, 1, 1, 1), "parallel_depth": 1, "num_heads": 8}
    change = {"model": {"name": "coat_tiny", "options": options}, "data": {"name": "digits", "image_size": 32}}
    task = Task(type(tiny_spec).model_validate({**tiny_spec.model_dump(), **change}))
    state = task.build_model().state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) < len(state)
    compiled = planned(task, Schedule.full_model(), "3%")
    result = train_to_folder(Run(task.spec, compiled, 0, 1, "cpu", tmp_path), quiet())
    plain = timm.create_model(**result["timm_create_model"], checkpoint_path=str(tmp_path / WEIGHTS))
    weights = load_file(tmp_path / WEIGHTS)
    assert weights.keys() == plain.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.state_dict().items())


def test_the_time_left_is_that_of_the_cost_left(tiny_task, three_stages, tmp_path):
    """A quarter of the cost took 50 s: 150 s are left."""
    compiled = planned(tiny_task, three_stages)
    done = SegmentResult(stage=1, steps=1, flops=compiled.flops // 4, mean_loss=1.25, seconds=50.0)
    standing = RunStatus.of(Progress(compiled, unfinished=done))
    assert standing.seconds_left == pytest.approx(150, rel=1e-6)
    assert (standing.spent, standing.cost) == pytest.approx((0.25, 0.25 * compiled.cost), rel=1e-6)
    standing.save(tmp_path)
    assert RunStatus.read(tmp_path) == standing

    console = terminal()
    with BudgetBar(console) as bar:
        bar.show(standing)
    assert "25% of the budget, 0:02:30 left" in console.file.getvalue()
    console = quiet()
    with BudgetBar(console) as bar:
        for _ in range(3):
            bar.show(standing)
    line = f"25% of the budget, stage 2, loss 1.250, 0:02:30 left, cost {standing.cost:.3%} of full training\n"
    assert console.file.getvalue() == line


def test_a_run_says_where_and_how_far_it_is(tiny_task, three_stages, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "LINE_SECONDS", 0.0)
    console = quiet()
    compiled = planned(tiny_task, three_stages)
    train_to_folder(Run(tiny_task.spec, compiled, 0, 1, "cpu", tmp_path), console)
    first, *lines = console.file.getvalue().splitlines()
    assert first == "training on the CPU, 1 thread"
    assert len(lines) == len(compiled.segments)  # each shorter than the steps between looks
    assert re.fullmatch(
        r"100% of the budget, stage 3, loss \d\.\d{3}, 0:00:00 left, cost 4\d\.\d{3}% of full training", lines[-1]
    )
    assert not (tmp_path / PROGRESS).exists()


def test_a_refused_run_shows_and_changes_nothing(tiny_task, three_stages, tmp_path):
    train_to_folder(Run(tiny_task.spec, planned(tiny_task, three_stages), 0, 1, "cpu", tmp_path), quiet())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    console = terminal()
    with pytest.raises(InvalidInput, match="'budget': the checkpoint belongs to a run with another one: '50%', now '40%'"):
        train_to_folder(Run(tiny_task.spec, planned(tiny_task, three_stages, "40%"), 0, 1, "cpu", tmp_path), console)
    assert console.file.getvalue() == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
