"""A production run, or its calibration, in several processes of a Ray cluster, by Ray Train. Needs ray."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from explorer.production.run import Run, starting_lines, train_to_folder
from explorer.production.run_folder import check_folder
from explorer.production.run_status import BudgetBar, RunStatus
from explorer.spec.task import TaskSpec
from explorer.sweep.cluster import start_ray
from explorer.sweep.interrupts import interrupts_deferred
from explorer.sweep.preemption import notice
from explorer.training.calibration import MEASURED_SECONDS, Calibration, Variant, check_setting, setting_of
from explorer.training.device import training_on
from explorer.training.distributed import Processes
from explorer.training.errors import DivergedError, PreemptedError, TrainingError
from explorer.training.evaluation import NotMeasuredError
from explorer.training.task import Task

MAX_FAILURES = 3
"""Number of lost Ray workers after which a run is given up."""
MAX_REASON_LENGTH = 300
"""Number of characters of another package's error message that are shown."""
DIVERGED = "diverged.txt"
"""File in which a process tells the driver that the loss is not finite. Ray would restart a process that fails with an error,
and it would diverge again."""
NOT_MEASURED = "not_measured.txt"
"""File in which a process tells the driver that a metric of the trained model is no number, for the same reason."""
REFUSED = "refused.json"
"""File in which a process tells the driver why it cannot train in its setting, for the same reason."""
PREEMPTED = "preempted.txt"
"""File in which a process tells the driver that a node is about to be taken away, and that the checkpoint is written. Ray would
count it as a failure."""
FILES = {DivergedError: DIVERGED, NotMeasuredError: NOT_MEASURED, PreemptedError: PREEMPTED}
"""Files for the errors that all processes raise."""
ACCELERATOR_PREFIX = "accelerator_type:"
"""Prefix of the Ray resources that are named after GPUs."""


def device_on_ray(gpus: float, address: str | None) -> str:
    """`cuda` for processes that are given GPUs, if the cluster at an address has any; otherwise `cpu`."""
    with interrupts_deferred():
        start_ray(address)
    return "cuda" if gpus > 0 and ray.cluster_resources().get("GPU", 0) else "cpu"


def train_on_ray(run: Run, processes: int, address: str | None, console: Console) -> RunResult:
    """Train a run in several processes, each with `run.threads` CPUs and, for `cuda`, a GPU.

    When a process or its node is lost, all processes restart from the last checkpoint, on other nodes if necessary. When Ray
    drains a node, they write the checkpoint first.

    Args:
        run: what to train. All nodes must see `run.out`.
        processes: number of processes.
        address: address of the Ray cluster; `None` uses this machine only.
        console: where progress is shown.

    Returns:
        The content of `result.json`.

    Raises:
        InvalidInput: when the cluster has too few resources, or as `train_to_folder`.
        TrainingError: when the loss is NaN or infinite (`DivergedError`), a metric of the trained model is no number
            (`NotMeasuredError`), or the processes fail for another reason.
    """
    task = Task(run.task)
    # Here, so that one line is printed and Ray does not restart the processes.
    resumed = check_folder(run, task.data.inventory, processes)
    workers = Workers(processes, run.threads, run.device, address)
    for line in starting_lines(run, task, resumed, processes):
        print_line(console, line)
    precision = task.precision(torch.device(run.device))
    print_line(console, training_on(workers.start(), precision, run.threads, processes))
    run = replace(run, out=run.out.resolve())
    refused, preempted = run.out / REFUSED, run.out / PREEMPTED
    for name in (REFUSED, *FILES.values()):
        (run.out / name).unlink(missing_ok=True)
    done = threading.Event()
    progress_thread = threading.Thread(target=_show_progress, args=(run, console, done))
    progress_thread.start()
    try:
        workers.run(_train_in_process, {"run": run}, run.out)
        while preempted.exists():
            stopped = preempted.read_text(encoding="utf-8")
            print_line(console, f"a node is about to be taken away: {stopped}; resuming elsewhere")
            preempted.unlink()
            workers.run(_train_in_process, {"run": run}, run.out)
    finally:
        done.set()
        progress_thread.join()
    if refused.exists():
        raise InvalidInput(*json.loads(refused.read_text(encoding="utf-8")))
    for kind in (DivergedError, NotMeasuredError):
        if (told := run.out / FILES[kind]).exists():
            raise kind(told.read_text(encoding="utf-8"))
    return RunResult.load(run.out)


def calibrate_on_ray(
    task: TaskSpec, variants: Sequence[Variant], workers: Workers, out: Path, seconds: float = MEASURED_SECONDS
) -> Calibration:
    """Measure step times in several processes that train together, as `train_on_ray` runs them.

    Args:
        task: the task.
        variants: the steps to measure, besides that of the full model.
        workers: the processes.
        out: file to write. All nodes must see its folder.
        seconds: how long to measure each of them.

    Raises:
        InvalidInput: when the cluster has too few resources, or the model cannot have some of the rates.
        TrainingError: when the processes fail for another reason.
    """
    out = out.resolve()
    folder = out.with_name(f"{out.name}.ray-train")
    config = {"task": task, "variants": tuple(variants), "seconds": seconds, "out": out}
    config |= {"threads": workers.threads, "device": workers.device}
    workers.start()
    try:
        workers.run(_calibrate_in_process, config, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Calibration.load(out)


@dataclass(frozen=True)
class Workers:
    """Processes on a Ray cluster that train a model together."""

    count: int
    threads: int
    """CPUs of each process."""
    device: str
    """`cuda`, which gives each process a GPU, or `cpu`."""
    address: str | None
    """Address of the Ray cluster; `None` uses this machine only."""

    def start(self) -> str:
        """Start Ray, or join its cluster, and check that it has room for the processes.

        Returns:
            The names of the cluster's GPUs, or `cpu`.

        Raises:
            InvalidInput: when the cluster has too few resources.
        """
        with interrupts_deferred():
            start_ray(self.address)
        available = ray.cluster_resources()
        for name, amount in self._resources.items():
            if self.count * amount > available.get(name, 0):
                reason = f"{self.count * amount:g} {name}s are needed, but the cluster has {available.get(name, 0):g}"
                raise InvalidInput("processes", self.count, reason)
        if not self._resources["GPU"]:
            return "cpu"
        names = [name.removeprefix(ACCELERATOR_PREFIX) for name in available if name.startswith(ACCELERATOR_PREFIX)]
        return " or ".join(names) or "a GPU"

    def run(self, function: Callable[[dict[str, Any]], None], config: dict[str, Any], folder: Path) -> None:
        """Call a function in each process, in torch's process group, after `start`.

        Args:
            function: what to call.
            config: its argument.
            folder: where Ray Train keeps its files. All nodes must see it.

        Raises:
            InvalidInput: when the function raised it.
            TrainingError: when the processes fail for another reason.
        """
        logging.getLogger("ray.train").setLevel(logging.WARNING)
        use_gpu = bool(self._resources["GPU"])
        trainer = TorchTrainer(
            function,
            train_loop_config=config,
            scaling_config=ScalingConfig(num_workers=self.count, use_gpu=use_gpu, resources_per_worker=self._resources),
            run_config=RunConfig(
                name="ray-train", storage_path=str(folder), failure_config=FailureConfig(max_failures=MAX_FAILURES)
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as failed:
            raise _cause(failed) from None

    @property
    def _resources(self) -> dict[str, float]:
        """Resources of each process."""
        return {"CPU": float(self.threads), "GPU": float(self.device == "cuda")}


def _calibrate_in_process(config: dict[str, Any]) -> None:
    torch.set_num_threads(config["threads"])
    processes = Processes.here()
    measured = Calibration.measure_variants(
        Task(config["task"]), config["variants"], config["device"], seconds=config["seconds"], processes=processes
    )
    if processes.is_main:
        measured.save(config["out"])


def _train_in_process(config: dict[str, Any]) -> None:
    run, processes = config["run"], Processes.here()
    refusals = processes.all_gather(_refusal(run, processes.count))
    if reason := next(filter(None, refusals), None):  # one process may be on another device than the others
        if processes.is_main:
            write_file(run.out / REFUSED, json.dumps(reason))
        return
    try:
        train_to_folder(run, Console(quiet=True), processes, stop_requested=notice().came)
    except tuple(FILES) as error:
        if processes.is_main:
            write_file(run.out / FILES[type(error)], str(error))


def _refusal(run: Run, processes: int) -> tuple[str, str, str] | None:
    """Why the plan's step times are not those of this process: field, value and reason; `None` if they are."""
    torch.set_num_threads(run.threads)
    try:
        if run.calibrated:
            check_setting(run.calibrated, setting_of(Task(run.task), run.device, processes))
    except InvalidInput as error:
        return error.field, str(error.value), error.allowed
    return None


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
