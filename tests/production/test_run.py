"""What a run leaves in its folder, also when it is killed on the way."""

import csv
import signal
import struct
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from explorer.production.channels import read_metrics
from explorer.production.run import RESULT, WEIGHTS, Run, train_to_folder
from explorer.training import loop
from tests.conftest import quiet
from tests.training.test_loop import compile_plan


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
    command = [sys.executable, "-m", "explorer", "train", "--schedule", str(schedule), "--space", str(space_file)]
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
    compiled = compile_plan(tiny_task, three_stages)
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
