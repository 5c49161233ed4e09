"""Train with a schedule into a folder: weights that plain timm loads, and the metrics of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save as to_safetensors

from explorer.console import print_line
from explorer.files import write_file
from explorer.plan import Plan
from explorer.production.drift import DriftWatch
from explorer.production.evaluation_points import evaluation_steps
from explorer.production.loggers import RunLoggers
from explorer.production.measured import MeasuredMetric
from explorer.production.model_card import model_card
from explorer.production.model_folder import (
    MODEL,
    remove_model_folder,
    timm_config,
    without_shared_storage,
    write_model_folder,
)
from explorer.production.result import RunResult
from explorer.production.run_folder import CHECKPOINT, WEIGHTS, check_folder, only_run, prepare_folder, space_line
from explorer.production.run_status import PROGRESS, BudgetBar, RunStatus
from explorer.spec.inventory import Inventory
from explorer.spec.loggers import LoggerName
from explorer.spec.schedule import Schedule
from explorer.spec.step_times import Setting
from explorer.spec.task import TaskSpec
from explorer.training.calibration import check_setting, setting_of
from explorer.training.compile_choice import with_compilation_chosen
from explorer.training.device import device_name, training_on
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.errors import TrainingError
from explorer.training.loop import train
from explorer.training.progress import Progress
from explorer.training.result import TrainingResult
from explorer.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to train, and where to write it. Plain data, which several processes share."""

    task: TaskSpec
    plan: Plan
    seed: int
    threads: int
    """CPU threads of each process. As many as a trial of the sweep had give the same numbers."""
    device: str
    """`cuda` or `cpu`."""
    out: Path
    """Folder for the results; it is created if it does not exist. Processes on several nodes must all see it."""
    checkpoint_every: float = float("inf")
    """Seconds between two checkpoints within a segment. One is written after each segment in any case."""
    keep_checkpoints: int = 0
    """Number of earlier checkpoints that are kept in `checkpoints/`, besides `checkpoint.pt`."""
    evaluate_every: float | None = None
    """Share of the budget, in (0, 1), between evaluations of the model as it is then; `None`: the finished model only."""
    loggers: tuple[LoggerName, ...] = ()
    """Loggers in addition to `metrics.csv` and TensorBoard's files."""
    calibrated: Setting | None = None
    """Where the step times of the plan were measured. Each process checks that it trains there. `None` if it has none."""
    inventory: Inventory | None = None
    """What a check of the data found, to be kept with the result. `None` keeps what is known without opening images."""
    schedule: Schedule | None = None
    """The schedule of the plan: the model card says what was measured with it. `None` if it is not known."""


def train_to_folder(
    run: Run,
    console: Console,
    processes: Processes = SINGLE_PROCESS,
    stop_requested: Callable[[], bool] | None = None,
) -> RunResult:
    """Train, and write `weights.safetensors`, `model/`, `result.json` and `metrics.csv`; meanwhile `checkpoint.pt` and
    `progress.json`.

    A run that was interrupted resumes from the checkpoint when this is called again with the same arguments.

    Args:
        run: what to train.
        console: where progress is shown.
        processes: the processes that train the run together; each of them calls this function, and the main process writes.
        stop_requested: asked in every process whether to write the checkpoint and stop; `None` trains to the end.

    Returns:
        The content of `result.json`.

    Raises:
        DivergedError: when the loss or a weight is NaN or infinite. The last checkpoint, with finite weights, stays.
        PreemptedError: when `stop_requested` said so.
        NotMeasuredError: when a metric of the trained model is no number. The last checkpoint, with its weights, stays.
        TrainingError: when the results cannot be written; the checkpoint stays.
        InvalidInput: when `run.out` cannot be written, has no room for a checkpoint, contains another run (one with other data,
            too) or files of another program, or another process trains into it, or this process does not train where the step
            times of the plan were measured.
    """
    torch.set_num_threads(run.threads)
    task = Task(run.task)
    if run.calibrated:
        check_setting(run.calibrated, setting_of(task, run.device, processes.count))
    resumed = check_folder(run, task.data.inventory, processes.count)  # before anything in the folder changes
    if not processes.is_main:
        return _trained(run, task, processes, console, None, stop_requested)

    def say(line: str) -> None:
        print_line(console, line)

    metrics = [measure.metric for measure in task.objective.measures]
    resumed_at = None if resumed is None else resumed["steps"]
    with only_run(run.out):
        prepare_folder(run.out)
        for line in starting_lines(run, task, resumed, processes.count):
            say(line)
        with RunLoggers(
            run.out, run.plan, run.task.recipe.learning_rate, run.loggers, metrics, resumed_at=resumed_at, say=say
        ) as loggers:
            return _trained(run, task, processes, console, loggers, stop_requested)


def starting_lines(run: Run, task: Task, resumed: dict[str, Any] | None, processes: int) -> list[str]:
    """What is to be said about a run that is about to start: what it will write, and another number of processes.

    Args:
        run: the run.
        task: its task.
        resumed: the content of the checkpoint; `None` for a new run.
        processes: number of processes that will train it.

    Raises:
        InvalidInput: when there is no room for a checkpoint.
    """
    lines = [space_line(run, task)]
    if resumed is not None and (before := resumed["run"]["processes"]) != processes:
        lines.append(
            f"the number of processes is {processes}, and was {before} until step {resumed['steps']}: batches and learning "
            "rates are the same, random numbers (dropout, drop path, mixing) and rounding are not, so the result is not "
            "bit-identical to that of an uninterrupted run"
        )
    return [line for line in lines if line]


def _trained(
    run: Run,
    task: Task,
    processes: Processes,
    console: Console,
    loggers: RunLoggers | None,
    stop_requested: Callable[[], bool] | None,
) -> RunResult:
    """Train, and write the results where there are loggers: on the main process."""
    if processes.is_main:
        precision = task.precision(torch.device(run.device))
        print_line(console, training_on(device_name(run.device), precision, run.threads, processes.count))
    task, why = with_compilation_chosen(task, run.plan, run.device, processes)
    if why and processes.is_main:
        print_line(console, why)
    config = timm_config(task)  # before the training: what cannot be written is then known in time
    if config is None and processes.is_main:
        line = f"{MODEL}/ will not be written: plain timm cannot build {task.spec.model.name}; its weights will be in {WEIGHTS}"
        print_line(console, line)
    watch, drift, evaluations_logged = DriftWatch(), "", 0
    with BudgetBar(console) as bar:

        def on_loss_check(progress: Progress) -> None:
            nonlocal drift, evaluations_logged
            if processes.is_main:
                drift = watch.check(progress) or drift
                status = RunStatus.of(progress, drift, task.objective.metric)
                try:
                    status.save(run.out)
                except OSError as error:  # the run does not depend on it
                    unwritten = f"warning: {PROGRESS} cannot be written: {error.strerror or error}; training continues"
                    status = replace(status, warning=status.warning or unwritten)
                bar.show(status)
            if loggers and len(progress.evaluations) > evaluations_logged:
                evaluations_logged = len(progress.evaluations)
                loggers.log(progress)

        def on_segment(progress: Progress) -> None:
            on_loss_check(progress)
            if loggers:
                loggers.log(progress)

        trained = train(
            task,
            run.plan,
            seed=run.seed,
            device=run.device,
            checkpoint=run.out / CHECKPOINT,
            checkpoint_every=run.checkpoint_every,
            keep_checkpoints=run.keep_checkpoints,
            evaluate_after=evaluation_steps(run.plan, run.evaluate_every) if run.evaluate_every else (),
            processes=processes,
            on_segment=on_segment,
            on_loss_check=on_loss_check,
            stop_requested=stop_requested,
        )
    result = RunResult(
        timm_create_model=task.model_arguments(),
        model_input=task.model_input,
        seed=run.seed,
        budget=str(run.plan.budget),
        currency=run.plan.currency,
        planned_flops=run.plan.flops,
        realised_flops=trained.flops,
        planned_seconds=run.plan.seconds,
        train_seconds=trained.seconds,
        time=trained.time,
        stage_times=trained.stage_times,
        cost=trained.flops / run.plan.full_flops,
        steps=trained.steps,
        skipped_updates=trained.skipped_updates,
        processes=processes.count,
        earlier_processes=trained.earlier_processes,
        metric=trained.metric,
        validation=trained.validation,
        test=trained.test,
        also=trained.also,
        inventory=run.inventory or task.data.inventory,
    )
    try:
        if loggers:
            _write_results(run, task, trained, result, config, loggers, console)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"the results cannot be written into {run.out}: {reason}; make room for them") from None
    return result


def _write_results(
    run: Run,
    task: Task,
    trained: TrainingResult,
    result: RunResult,
    config: dict[str, Any] | None,
    loggers: RunLoggers,
    console: Console,
) -> None:
    """Write the weights, the folder to hand over and the results, and end the loggers."""
    tensors = without_shared_storage(trained.model.state_dict())
    metadata = {"format": "pt", **task.model_input.as_metadata(), "timm_create_model": json.dumps(result.timm_create_model)}
    write_file(run.out / WEIGHTS, to_safetensors(tensors, metadata))
    if config is not None:
        write_model_folder(run.out / MODEL, config, tensors, _card(run, task, result, config["architecture"]))
    elif remove_model_folder(run.out / MODEL):
        print_line(console, f"{MODEL}/ in {run.out} was that of an earlier run: its files are removed")
    result.save(run.out)
    loggers.finish(result.metric.logged(result.validation, result.test, result.also), result.steps)
    (run.out / PROGRESS).unlink(missing_ok=True)


def _card(run: Run, task: Task, result: RunResult, architecture: str) -> str:
    """The text of the model card."""
    inventory = result.inventory or task.data.inventory
    measured = MeasuredMetric(
        metric=result.metric.name,
        value=result.test,
        images=inventory.test.images,
        listing=inventory.test.listing,
        device=device_name(run.device),
        precision=task.precision(torch.device(run.device)) or "float32",
        backend=getattr(task.data, "backend", "pil"),
        threads=run.threads,
    )
    return model_card(
        architecture=architecture,
        task=task.spec,
        inputs=task.model_input,
        inventory=inventory,
        plan=run.plan,
        schedule=run.schedule,
        result=result,
        measured=measured,
        kind=task.objective.kind,
    )
