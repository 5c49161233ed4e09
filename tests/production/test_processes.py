"""Several processes train the model that one would have trained, up to float error."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from explorer import Budget, InvalidInput, Rates, Schedule, SearchSpace, Stage, compile_plan
from explorer.production.evaluation_points import evaluation_steps
from explorer.production.loggers import read_metrics
from explorer.production.result import RunResult
from explorer.production.run import WEIGHTS, Run, train_to_folder
from explorer.training.checkpoint import identity, own_checkpoint, save_checkpoint
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


@pytest.mark.nightly
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.timeout(1800)
def test_a_run_resumes_with_another_number_of_processes(tmp_path, first):
    """From one process to two, and the reverse: batches are the same, and this training uses no random numbers."""
    train_to_folder(run_of_one(tmp_path / "single"), quiet())
    out, environment = tmp_path / "changed", {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*arguments(tmp_path, out), "--evaluate-every", "30%"]
    commands = {1: [sys.executable, "-m", "explorer", *words], 2: [*TORCHRUN, *words]}
    killed = subprocess.Popen(commands[first], env=environment)
    wait_for_segments(out, 3, killed)
    for process in processes(str(out)):
        os.kill(process, signal.SIGKILL)
    killed.wait()
    done = subprocess.run(commands[3 - first], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"the number of processes is {3 - first}, and was {first} until step " in done.stdout
    assert f"trained by {first}, then {3 - first} processes" in done.stdout
    result = RunResult.load(out)
    assert (result.earlier_processes, result.processes) == ((first,), 3 - first)
    assert_same_up_to_rounding(tmp_path / "single", out)
    evaluated = [row for row in read_metrics(out) if "validation_accuracy" in row]
    assert [row["step"] for row in evaluated] == sorted(evaluation_steps(run_of_one(out).plan, 0.3))


def test_measured_step_times_are_of_one_number_of_processes(tmp_path):
    """A plan whose steps were timed is that of a number of processes: the checkpoint of another one is refused."""
    run = run_of_one(tmp_path)
    data = Task(run.task).data.inventory
    timed = replace(run.plan, segments=tuple(replace(segment, step_seconds=0.01) for segment in run.plan.segments))
    assert timed.seconds is not None
    save_checkpoint(tmp_path / "checkpoint.pt", identity(run.task, data, timed, 0, 2))
    with pytest.raises(InvalidInput, match=r"'processes': differs from the run .*: it was 2 and is now 1"):
        own_checkpoint(tmp_path / "checkpoint.pt", run.task, data, timed, 0, 1)
    save_checkpoint(tmp_path / "checkpoint.pt", identity(run.task, data, run.plan, 0, 2))
    own_checkpoint(tmp_path / "checkpoint.pt", run.task, data, run.plan, 0, 1)


def test_a_number_of_processes_that_does_not_divide_the_batch_does_not_resume(tmp_path):
    run = run_of_one(tmp_path)
    data = Task(run.task).data.inventory
    save_checkpoint(tmp_path / "checkpoint.pt", {**identity(run.task, data, run.plan, 0, 2), "steps": 1})
    with pytest.raises(InvalidInput, match=r"^recipe\.batch_size: 32: must be a multiple of the 3 processes"):
        train_to_folder(run, quiet(), Processes(1, 3))


def test_a_batch_that_processes_cannot_divide_is_refused():
    with pytest.raises(InvalidInput, match=r"recipe\.batch_size: 32: must be a multiple of the 3 processes"):
        Processes(0, 3).local_slice(32)
