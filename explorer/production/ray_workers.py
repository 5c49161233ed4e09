"""A production run in several processes of a Ray cluster, by Ray Train. Needs ray."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from rich.console import Console

from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.files import write_file
from explorer.production.result import RunResult
from explorer.production.run import CHECKPOINT, Run, train_to_folder
from explorer.production.run_status import BudgetBar, RunStatus
from explorer.sweep.cluster import start_ray
from explorer.sweep.interrupts import interrupts_deferred
from explorer.training.checkpoint import own_checkpoint
from explorer.training.device import training_on
from explorer.training.distributed import Processes
from explorer.training.loop import DivergedError, TrainingError
from explorer.training.task import Task

MAX_FAILURES = 3
"""Number of lost Ray workers after which a run is given up."""
MAX_REASON_LENGTH = 300
"""Number of characters of another package's error message that are shown."""
DIVERGED = "diverged.txt"
"""File in which a process tells the driver that the loss is not finite. Ray would restart a process that fails with an error,
and it would diverge again."""
ACCELERATOR_PREFIX = "accelerator_type:"
"""Prefix of the Ray resources that are named after GPUs."""


def device_on_ray(gpus: float, address: str | None) -> str:
    """`cuda` for processes that are given GPUs, if the cluster at an address has any; otherwise `cpu`."""
    with interrupts_deferred():
        start_ray(address)
    return "cuda" if gpus > 0 and ray.cluster_resources().get("GPU", 0) else "cpu"


def train_on_ray(run: Run, processes: int, address: str | None, console: Console) -> RunResult:
    """Train a run in several processes, each with `run.threads` CPUs and, for `cuda`, a GPU.

    When a process or its node is lost, all processes restart from the last checkpoint, on other nodes if necessary.

    Args:
        run: what to train. All nodes must see `run.out`.
        processes: number of processes.
        address: address of the Ray cluster; `None` uses this machine only.
        console: where progress is shown.

    Returns:
        The content of `result.json`.

    Raises:
        InvalidInput: when the cluster has too few resources, or as `train_to_folder`.
        TrainingError: when the loss is NaN or infinite (`DivergedError`), or the processes fail for another reason.
    """
    checkpoint = run.out / CHECKPOINT
    if checkpoint.exists():  # checked here, so that one line is printed and Ray does not restart the processes
        own_checkpoint(checkpoint, run.task, run.plan, run.seed, processes, mmap=True)
    with interrupts_deferred():
        start_ray(address)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    run = replace(run, out=run.out.resolve())
    per_process = {"CPU": float(run.threads), "GPU": float(run.device == "cuda")}
    available = ray.cluster_resources()
    for name, amount in per_process.items():
        if processes * amount > available.get(name, 0):
            reason = f"{processes * amount:g} {name}s are needed, but the cluster has {available.get(name, 0):g}"
            raise InvalidInput("processes", processes, reason)
    trainer = TorchTrainer(
        _train_in_process,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=bool(per_process["GPU"]), resources_per_worker=per_process),
        run_config=RunConfig(
            name="ray-train", storage_path=str(run.out), failure_config=FailureConfig(max_failures=MAX_FAILURES)
        ),
    )
    gpu_names = [name.removeprefix(ACCELERATOR_PREFIX) for name in available if name.startswith(ACCELERATOR_PREFIX)]
    device = (" or ".join(gpu_names) or "a GPU") if per_process["GPU"] else "cpu"
    bf16 = Task(run.task).amp(torch.device(run.device))
    print_line(console, training_on(device, bf16, run.threads, processes))
    diverged = run.out / DIVERGED
    diverged.unlink(missing_ok=True)
    done = threading.Event()
    progress_thread = threading.Thread(target=_show_progress, args=(run, console, done))
    progress_thread.start()
    try:
        trainer.fit()
    except TrainingFailedError as failed:
        raise _cause(failed) from None
    finally:
        done.set()
        progress_thread.join()
    if diverged.exists():
        raise DivergedError(diverged.read_text(encoding="utf-8"))
    return RunResult.load(run.out)


def _train_in_process(config: dict[str, Any]) -> None:
    run, processes = config["run"], Processes.here()
    try:
        train_to_folder(run, Console(quiet=True), processes)
    except DivergedError as error:  # all processes see the same loss
        if processes.is_main:
            write_file(run.out / DIVERGED, str(error))


def _cause(failed: TrainingFailedError) -> InvalidInput | TrainingError:
    """Why the processes failed, in one line: one of this package's own errors, or the first of the others."""
    failures = [*getattr(failed, "worker_failures", {}).values()] or [getattr(failed, "controller_failure", failed)]
    causes = [getattr(error, "cause", None) or error for error in failures]
    for cause in causes:
        if isinstance(cause, InvalidInput | TrainingError):
            return cause
    reason = " ".join(str(causes[0]).split())[:MAX_REASON_LENGTH]
    return TrainingError(f"the processes failed: {type(causes[0]).__name__}: {reason}; Ray's logs have more")


def _show_progress(run: Run, console: Console, done: threading.Event) -> None:
    """Show the progress that the main process writes."""
    with BudgetBar(console) as bar:
        while not done.wait(0.5):
            if status := RunStatus.read(run.out):
                bar.show(status)
