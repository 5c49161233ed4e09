"""Ctrl-C and SIGTERM write the checkpoint first, so that nothing that was trained is lost."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from explorer.production.run_status import PROGRESS
from explorer.training import loop
from explorer.training.checkpoint import load_checkpoint
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.errors import PreemptedError
from explorer.training.loop import train
from explorer.training.stopping import StopSignal
from tests.training.runs import planned, same_weights


def at_step(steps, action):
    """A callback that acts once, at the first loss check from a step on."""
    waiting = [steps]

    def on_loss_check(progress):
        if waiting and progress.steps >= waiting[0]:
            waiting.clear()
            action()

    return on_loss_check


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [
        (signal.SIGTERM, SystemExit, 143),
        pytest.param(signal.SIGINT, KeyboardInterrupt, None, marks=pytest.mark.nightly),
    ],
)
def test_a_signal_within_a_segment_loses_no_step(tiny_task, three_stages, tmp_path, monkeypatch, number, error, code):
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 1)
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    plan, checkpoint = planned(tiny_task, three_stages, "20%"), tmp_path / "c.pt"
    straight = train(tiny_task, plan, seed=1)
    steps = sum(segment.steps for segment in plan.segments[:5]) + 3
    send = at_step(steps, lambda: signal.raise_signal(number))
    try:
        with pytest.raises(error) as raised:
            train(tiny_task, plan, seed=1, checkpoint=checkpoint, on_loss_check=send)
        handler = signal.getsignal(number)
    finally:
        signal.signal(number, before)
    assert code is None or raised.value.code == code
    assert handler in (signal.SIG_DFL, signal.default_int_handler)
    content = load_checkpoint(checkpoint)
    assert content["steps"] == steps
    resumed = train(tiny_task, plan, seed=1, checkpoint=checkpoint)
    assert same_weights(straight.model, resumed.model)


def test_a_request_to_stop_writes_the_checkpoint_from_which_the_same_call_resumes(
    tiny_task, three_stages, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 1)
    plan, checkpoint = planned(tiny_task, three_stages, "20%"), tmp_path / "c.pt"
    with pytest.raises(PreemptedError, match=f"after step 1 of {plan.steps}; its state is kept"):
        train(tiny_task, plan, seed=1, checkpoint=checkpoint, stop_requested=lambda: True)
    resumed = train(tiny_task, plan, seed=1, checkpoint=checkpoint, stop_requested=lambda: False)
    assert same_weights(train(tiny_task, plan, seed=1).model, resumed.model)


def test_the_second_signal_is_raised_at_once(heeds_ctrl_c):
    stop = StopSignal()
    with stop.noted():
        signal.raise_signal(signal.SIGINT)
        assert stop.came(SINGLE_PROCESS)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_without_a_checkpoint_a_signal_is_raised_at_once(heeds_ctrl_c, tiny_task, three_stages, monkeypatch):
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 1)
    seen = []

    def on_loss_check(progress):
        seen.append(progress.steps)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny_task, planned(tiny_task, three_stages), seed=1, on_loss_check=on_loss_check)
    assert len(seen) == 1


def test_outside_of_the_main_thread_nothing_is_noted():
    before, during = signal.getsignal(signal.SIGTERM), []

    def enter():
        with StopSignal().noted():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert during == [before]


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ctrl_c_in_a_terminal_leaves_the_loader_its_batches(heeds_ctrl_c, image_folder, three_stages, tmp_path):
    """A terminal sends Ctrl-C to all processes, those of the data loader included."""
    task = {
        "model": {"name": "vit_tiny_patch16_224", "options": {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}},
        "data": {"name": "folder", "root": str(image_folder), "image_size": 16, "num_workers": 1},
        "recipe": {"epochs": 400, "batch_size": 9, "learning_rate": 2e-3},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "explorer", "train", "--task", str(tmp_path / "task.yaml"), "--budget", "50%"]
    command += ["--schedule", str(three_stages.save(tmp_path / "schedule.json")), "--out", str(out)]
    training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (out / PROGRESS).exists():
        assert training.poll() is None, training.stderr.read()
        time.sleep(0.05)
    time.sleep(1)  # into the middle of a segment
    os.killpg(training.pid, signal.SIGINT)
    _, stderr = training.communicate(timeout=900)
    assert training.returncode == 130, stderr
    line = re.search(r"explorer: interrupted at (\d+)% of the budget; the same command resumes at (\d+)% from", stderr)
    assert line, stderr
    assert line[1] == line[2]
    assert "Traceback" not in stderr
