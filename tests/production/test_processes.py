"""Several workers train the model that one would have trained, up to float error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from explorer import Budget, InvalidInput, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.data.source import open_data
from explorer.production.loggers import read_metrics
from explorer.production.run import RESULT, WEIGHTS, Run, train_to_folder
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.training.distributed import Processes
from explorer.training.task import Task
from tests.conftest import TINY_SPACE, processes, quiet

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "explorer"]


SPACE = yaml.safe_load(TINY_SPACE)
SPACE["staging"] = {"token_policy": "resize"}
SPACE["recipe"].update(optimizer="sgd", learning_rate=0.05, clip_grad=1.0, epochs=6, accumulation=2, ema_decay=0.9)
SPACE["search"].update(learning_rate=[0.01, 0.1])
"""Nothing is drawn at random while training. SGD shows errors that AdamW hides."""
STAGES = (
    Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5, depth=0.5), duration_ratio=0.4),
    Stage(rates=Rates(heads=0.5), duration_ratio=0.3),
    Stage(rates=Rates(), duration_ratio=0.3),
)


def run_of_one(out: Path, budget: str = "50%") -> Run:
    task = Task(SearchSpace.model_validate(SPACE).task)
    compiled = compile_plan(Schedule(stages=STAGES, grid=10), task, Budget.parse(budget), task.step_cost)
    return Run(task=task.spec, plan=compiled, seed=0, threads=1, device="cpu", out=out)


def arguments(folder: Path, out: Path) -> list[str]:
    """The same run for the command line."""
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    schedule = Schedule(stages=STAGES, grid=10).save(folder / "schedule.json")
    names = {"schedule": schedule, "space": folder / "space.yaml", "budget": "50%", "out": out}
    return ["train", *(word for name, value in names.items() for word in (f"--{name}", str(value)))]


def assert_same_up_to_rounding(one: Path, other: Path) -> None:
    """Weights and accuracies in two runs' folders."""
    found = load_file(other / WEIGHTS)
    for name, tensor in load_file(one / WEIGHTS).items():
        assert torch.allclose(tensor, found[name], rtol=1e-3, atol=2e-5), (name, (tensor - found[name]).abs().max())
    accuracies = [yaml.safe_load((out / RESULT).read_text())["test_accuracy"] for out in (one, other)]
    assert accuracies[0] == accuracies[1]


def wait_for_segments(out: Path, segments: int) -> None:
    deadline = time.monotonic() + 150
    while len(read_metrics(out)) < segments:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_two_workers_of_torchrun_are_killed_go_on_and_end_where_one_ends(tmp_path):
    train_to_folder(run_of_one(tmp_path / "alone"), quiet())
    out = tmp_path / "together"
    command = [*TORCHRUN, *arguments(tmp_path, out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([*command, "--checkpoint-every", "0"], env=environment)
    wait_for_segments(out, 3)
    for process in processes(str(out)):
        os.kill(process, signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("cost:") == 1  # the first worker speaks
    assert yaml.safe_load((out / RESULT).read_text())["workers"] == 2
    assert_same_up_to_rounding(tmp_path / "alone", out)
    with pytest.raises(InvalidInput, match="'workers': the checkpoint belongs to a run with another one"):
        train_to_folder(run_of_one(out), quiet())


def test_shares_make_up_the_batch(image_folder):
    """In order and image by image, augmentation included."""
    folder = DataSpec(name="folder", root=str(image_folder), image_size=16)
    augmentation = Augmentation(transform={"re_prob": 0.5})
    for spec in (DataSpec(name="digits"), folder):
        data = open_data(spec)
        whole = list(data.train_batches(7, 2, 3, 8, augmentation, CPU))
        parts = [list(data.train_batches(7, 2, 3, 8, augmentation, CPU, Processes(rank, 2))) for rank in (0, 1)]
        for batch, *shares in zip(whole, *parts, strict=True):
            for of_all, of_each in zip(batch, zip(*shares, strict=True), strict=True):
                assert torch.equal(of_all, torch.cat(of_each))
        seen = [len(labels) for rank in (0, 1) for _, labels in data.evaluation_batches("test", CPU, Processes(rank, 2))]
        assert sum(seen) == sum(len(labels) for _, labels in data.evaluation_batches("test", CPU))


def test_a_batch_that_workers_cannot_share_is_refused():
    with pytest.raises(InvalidInput, match=r"recipe\.batch_size: 32: must be a multiple of the 3 workers"):
        Processes(0, 3).share(32)
