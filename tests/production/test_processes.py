"""Several processes train the model that one would have trained, up to float error."""

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
from explorer.production.loggers import read_metrics
from explorer.production.result import RunResult
from explorer.production.run import WEIGHTS, Run, train_to_folder
from explorer.training.distributed import Processes
from explorer.training.task import Task
from tests.conftest import TINY_SPACE, processes, quiet

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "explorer"]


SPACE = yaml.safe_load(TINY_SPACE)
SPACE["staging"] = {"token_policy": "resize"}
SPACE["recipe"].update(optimizer="sgd", learning_rate=0.05, clip_grad=1.0, epochs=3, accumulation=2, ema_decay=0.9)
SPACE["search"].update(learning_rate=[0.01, 0.1])
"""Training uses no random numbers. SGD shows errors that AdamW hides."""
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
    options = {"schedule": schedule, "task": folder / "space.yaml", "budget": "50%", "out": out}
    return ["train", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def assert_same_up_to_rounding(one: Path, other: Path) -> None:
    """Weights and accuracies in two runs' folders."""
    weights = load_file(other / WEIGHTS)
    for name, tensor in load_file(one / WEIGHTS).items():
        assert torch.allclose(tensor, weights[name], rtol=1e-3, atol=2e-5), (name, (tensor - weights[name]).abs().max())
    assert RunResult.load(one).test == RunResult.load(other).test


def wait_for_segments(out: Path, segments: int, process: subprocess.Popen | None = None) -> None:
    """Wait until a run, in a process that must not end meanwhile, has finished some segments."""
    while len(read_metrics(out)) < segments:
        assert process is None or process.poll() is None
        time.sleep(0.02)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_two_processes_of_torchrun_are_killed_and_resume_and_end_where_one_ends(tmp_path):
    train_to_folder(run_of_one(tmp_path / "single"), quiet())
    out = tmp_path / "together"
    command = [*TORCHRUN, *arguments(tmp_path, out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([*command, "--checkpoint-every", "0"], env=environment)
    wait_for_segments(out, 3, first)
    for process in processes(str(out)):
        os.kill(process, signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("cost:") == 1  # only the main process prints
    assert RunResult.load(out).processes == 2
    assert_same_up_to_rounding(tmp_path / "single", out)
    with pytest.raises(InvalidInput, match=r"'processes': differs from the run .*: it was 2 and is now 1"):
        train_to_folder(run_of_one(out), quiet())


def test_a_batch_that_processes_cannot_divide_is_refused():
    with pytest.raises(InvalidInput, match=r"recipe\.batch_size: 32: must be a multiple of the 3 processes"):
        Processes(0, 3).local_slice(32)
