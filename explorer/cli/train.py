"""The command `train`: a training that executes a schedule."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from explorer.cli.compiled_task import compile_for_task
from explorer.cli.shared import (
    AddressOption,
    BudgetOption,
    CalibrationOption,
    PriceOption,
    ProcessesOption,
    ScheduleOption,
    TaskOption,
    check_processes,
    console,
    load_named_schedule,
    warn,
)
from explorer.cli.signals import Terminated
from explorer.console import print_line
from explorer.spec.budget import Budget
from explorer.spec.loggers import checked_loggers
from explorer.spec.task_file import TaskFile


def train(
    schedule: ScheduleOption,
    task: TaskOption,
    budget: BudgetOption,
    out: Annotated[Path | None, typer.Option(help="Folder for weights and results; default: runs/<schedule>-<budget>.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Random seed; default: the one that the schedule was measured with, or 0.", min=0, max=2**63 - 1),
    ] = None,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
    processes: ProcessesOption = None,
    address: AddressOption = None,
    checkpoint_every: Annotated[float, typer.Option(help="Minutes between checkpoints within a segment.", min=0)] = 15,
    keep_checkpoints: Annotated[
        int, typer.Option(help="Earlier checkpoints to keep in OUT/checkpoints, besides OUT/checkpoint.pt.", min=0)
    ] = 0,
    evaluate_every: Annotated[
        str | None,
        typer.Option(
            help="Share of the budget, such as 10%, after which the model is evaluated as it is then; default: at the end only."
        ),
    ] = None,
    logger: Annotated[
        list[str] | None,
        typer.Option(help="mlflow or wandb, in addition to metrics.csv and TensorBoard files; can be repeated."),
    ] = None,
) -> None:
    """Train with a schedule and save weights that plain timm loads; the same command resumes an interrupted run.

    Under torchrun, its processes divide each batch: torchrun --nproc-per-node 8 -m explorer train ...
    """
    from explorer.production.evaluation_points import parse_share
    from explorer.production.interrupted import checkpoint_clause, diverged_clause, interrupted_line
    from explorer.production.model_folder import MODEL
    from explorer.production.run import Run, train_to_folder
    from explorer.production.run_folder import WEIGHTS
    from explorer.production.verdict import transfer_warning, verdict
    from explorer.training.device import gpu_obstacle
    from explorer.training.distributed import torchrun
    from explorer.training.errors import DivergedError, TrainingError

    share = None if evaluate_every is None else parse_share(evaluate_every)
    loaded = load_named_schedule(schedule, task)
    count, by_ray = check_processes(processes, task)
    on_cluster = None
    if by_ray and (calibration is not None or not Budget.parse(budget).counted):  # which are of a device
        on_cluster = _device_on_cluster(task, address)
    compiled = compile_for_task(loaded, task, budget, calibration, price, "all", processes=count, device_on_cluster=on_cluster)
    provenance, spec = loaded.provenance, compiled.task.spec
    run = Run(
        task=spec,
        plan=compiled.plan,
        schedule=loaded,
        seed=seed if seed is not None else provenance.seed if provenance else 0,
        threads=compiled.resources.cpus,
        device=compiled.device,
        out=out or Path("runs") / _run_name(schedule, compiled.plan.budget),
        checkpoint_every=60 * checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        evaluate_every=share,
        calibrated=compiled.calibrated,
        inventory=compiled.inventory,
        loggers=checked_loggers(logger or (), "logger"),
    )
    with torchrun(compiled.device == "cuda") as together:
        try:
            if not together.is_main:
                train_to_folder(run, Console(quiet=True), together)
                return
            warn(transfer_warning(loaded, spec, compiled.inventory))
            if by_ray:
                from explorer.production.ray_workers import train_on_ray

                run = replace(run, device=_device_on_cluster(task, address))
            if compiled.resources.gpus and run.device == "cpu":
                reason = "the Ray cluster has none" if by_ray else gpu_obstacle()
                warn(
                    f"resources.gpus is {compiled.resources.gpus:g}, but the GPU cannot be used, training on the CPU: {reason}"
                )
            result = train_on_ray(run, count, address, console) if by_ray else train_to_folder(run, console, together)
        except (KeyboardInterrupt, Terminated) as interrupt:
            if together.is_main:
                print(f"explorer: {interrupted_line(run)}", file=sys.stderr)
            raise type(interrupt)(*(interrupt.args or ("interrupted",))) from None
        except TrainingError as error:
            if together.is_main:
                clause = diverged_clause(run) if isinstance(error, DivergedError) else checkpoint_clause(run)
                print(f"explorer: {error}; {clause}", file=sys.stderr)
            raise typer.Exit(1) from None
    lines = [*verdict(loaded, spec, compiled.inventory, compiled.plan, result), f"weights: {run.out / WEIGHTS}"]
    if (run.out / MODEL).exists():
        lines.append(f"to hand over: {run.out / MODEL}")
    print_line(console, "\n".join(lines))


def _device_on_cluster(task: Path, address: str | None) -> str:
    """`cuda` if processes on the Ray cluster get GPUs, else `cpu`."""
    from explorer.production.ray_workers import device_on_ray

    return device_on_ray(TaskFile.load_task(task).resources.gpus, address)


def _run_name(schedule: Path, budget: Budget) -> str:
    """Name of a run's folder: schedule file and budget, but not the budget twice: many schedule files have it in their name."""
    name = schedule.stem
    return name if name.split("-")[-1] == budget.slug else f"{name}-{budget.slug}"
