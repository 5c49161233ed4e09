"""A production run on several workers of a Ray cluster, by Ray Train. Needs ray."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer
from rich.console import Console

from explorer.errors import InvalidInput
from explorer.production.channels import read_metrics
from explorer.production.run import CHECKPOINT, RESULT, Run, budget_bar, show, train_to_folder
from explorer.sweep.cluster import start_ray
from explorer.training.loop import own_checkpoint
from explorer.training.workers import Workers

FAILURES = 3
"""Losses of a worker after which a run is given up."""


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
        TrainingFailedError: when training fails.
    """
    checkpoint = run.out / CHECKPOINT
    if checkpoint.exists():  # told here, in one line, and not by each worker after Ray has started it several times
        own_checkpoint(checkpoint, run.task, run.plan, run.seed, count)
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
    done = threading.Event()
    watch = threading.Thread(target=_follow, args=(run, console, done))
    watch.start()
    try:
        trainer.fit()
    except TrainingFailedError as failed:
        for error in getattr(failed, "worker_failures", {}).values():
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, InvalidInput):
                raise cause from None
        raise
    finally:
        done.set()
        watch.join()
    return dict(json.loads((run.out / RESULT).read_text(encoding="utf-8")))


def _work(config: dict[str, Any]) -> None:
    train_to_folder(config["run"], Console(quiet=True), Workers.here())


def _follow(run: Run, console: Console, done: threading.Event) -> None:
    """Show how far the workers are, by the figures that the first of them writes."""
    with budget_bar(console) as bar:
        shown = bar.add_task("starting workers", total=1.0)
        while not done.wait(0.5):
            rows = read_metrics(Path(run.out))
            if rows:
                show(bar, shown, rows[-1]["budget_time"], int(rows[-1]["stage"]), rows[-1]["loss"])
