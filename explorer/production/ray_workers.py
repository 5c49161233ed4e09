"""A production run on several workers of a Ray cluster, by Ray Train. Needs ray."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from rich.console import Console

from explorer.errors import InvalidInput
from explorer.production.run import CHECKPOINT, RESULT, BudgetBar, Run, RunStatus, say, train_to_folder
from explorer.sweep.cluster import start_ray
from explorer.training.checkpoint import own_checkpoint
from explorer.training.device import training_on
from explorer.training.distributed import Processes
from explorer.training.loop import DivergedError, TrainingError
from explorer.training.task import Task

FAILURES = 3
"""Losses of a worker after which a run is given up."""
LINE = 300
"""Characters of another's message that are shown."""
DIVERGED = "diverged.txt"
"""Where a worker tells the driver that the loss is not finite: a failure would be tried again, with the same end."""
ACCELERATOR = "accelerator_type:"
"""What Ray's resources of a GPU's name begin with."""


def device_on_ray(gpus: float, address: str | None) -> str:
    """`cuda` for workers that are given GPUs, where the cluster at an address has any; else `cpu`."""
    start_ray(address)
    return "cuda" if gpus > 0 and ray.cluster_resources().get("GPU", 0) else "cpu"


def train_on_ray(run: Run, count: int, address: str | None, console: Console) -> dict[str, Any]:
    """Train a run on several workers, each with `run.threads` CPUs and, for `cuda`, a GPU.

    When a worker or its node is lost, all of them start again from the last checkpoint, on other nodes where need be.

    Args:
        run: what to train; `run.out` is seen by all nodes.
        count: number of workers.
        address: of the Ray cluster; None: this machine alone.
        console: where progress is shown.

    Returns:
        What `result.json` holds.

    Raises:
        InvalidInput: when the cluster has no room, or as `train_to_folder`.
        TrainingError: when the loss is NaN or infinite (`DivergedError`), or workers fail for another reason.
    """
    checkpoint = run.out / CHECKPOINT
    if checkpoint.exists():  # told here, in one line, and not by each worker after Ray has started it several times
        own_checkpoint(checkpoint, run.task, run.plan, run.seed, count, mmap=True)
    start_ray(address)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    run = replace(run, out=run.out.resolve())
    each = {"CPU": float(run.threads), "GPU": float(run.device == "cuda")}
    room = ray.cluster_resources()
    for name, amount in each.items():
        if count * amount > room.get(name, 0):
            needs = f"{count * amount:g} {name}s are needed, the cluster has {room.get(name, 0):g}"
            raise InvalidInput("workers", count, needs)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=bool(each["GPU"]), resources_per_worker=each),
        run_config=RunConfig(name="ray-train", storage_path=str(run.out), failure_config=FailureConfig(max_failures=FAILURES)),
    )
    names = [name.removeprefix(ACCELERATOR) for name in room if name.startswith(ACCELERATOR)] if each["GPU"] else ["cpu"]
    amp = Task(run.task).amp(torch.device(run.device))
    say(console, training_on(" or ".join(names) or "a GPU", amp, run.threads, count))
    diverged = run.out / DIVERGED
    diverged.unlink(missing_ok=True)
    done = threading.Event()
    watch = threading.Thread(target=_follow, args=(run, console, done))
    watch.start()
    try:
        trainer.fit()
    except TrainingFailedError as failed:
        raise _cause(failed) from None
    finally:
        done.set()
        watch.join()
    if diverged.exists():
        raise DivergedError(diverged.read_text(encoding="utf-8"))
    return dict(json.loads((run.out / RESULT).read_text(encoding="utf-8")))


def _work(config: dict[str, Any]) -> None:
    run, processes = config["run"], Processes.here()
    try:
        train_to_folder(run, Console(quiet=True), processes)
    except DivergedError as error:  # all workers see the same loss
        if processes.is_main:
            (run.out / DIVERGED).write_text(str(error), encoding="utf-8")


def _cause(failed: TrainingFailedError) -> InvalidInput | TrainingError:
    """What made the workers fail, in one line: one of our own errors, or the first of others."""
    failures = [*getattr(failed, "worker_failures", {}).values()] or [getattr(failed, "controller_failure", failed)]
    causes = [getattr(error, "cause", None) or error for error in failures]
    for cause in causes:
        if isinstance(cause, InvalidInput | TrainingError):
            return cause
    reason = " ".join(str(causes[0]).split())
    return TrainingError(f"the workers failed: {type(causes[0]).__name__}: {reason[:LINE]}; more is in Ray's logs")


def _follow(run: Run, console: Console, done: threading.Event) -> None:
    """Show how far the workers are, as the first of them writes it down."""
    with BudgetBar(console) as bar:
        while not done.wait(0.5):
            if standing := RunStatus.read(run.out):
                bar.show(standing)
