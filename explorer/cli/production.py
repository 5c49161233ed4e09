"""The commands that use a schedule: `plan`, `calibrate`, `train`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from explorer.cli.shared import (
    BudgetOption,
    CalibrationOption,
    PriceOption,
    ScheduleOption,
    TaskOption,
    console,
    load_task,
    warn,
)
from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.spec.budget import Budget
from explorer.spec.loggers import checked_loggers
from explorer.spec.rates import Rates, shown_axes
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace

if TYPE_CHECKING:
    from explorer.spec.task_file import Resources
    from explorer.training.task import Task


def plan(
    schedule: ScheduleOption,
    task: TaskOption,
    budget: BudgetOption,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
) -> None:
    """Print what a schedule will cost, stage by stage, before anything runs."""
    from explorer.production.verdict import transfer_warning

    loaded = Schedule.load(schedule)
    found = _compiled(loaded, task, budget, calibration, price)
    compiled = found.plan
    warn(transfer_warning(loaded, found.task.spec))
    console.print(_plan_table(compiled, found.task.spec.recipe.learning_rate))
    if compiled.budget.counted:
        planned = f"{compiled.flops:.4g} of {compiled.budget_cost:.4g} FLOPs"
    else:
        device = compiled.budget.device or "device"
        planned = f"{compiled.seconds:.4g} of {compiled.budget_cost / 1e9:.4g} {device}-seconds, {compiled.flops:.4g} FLOPs"
    console.print(
        f"{compiled.steps:,} steps of batch {compiled.batch_size}, {compiled.epochs(compiled.steps):.1f} epochs; planned "
        f"{planned} ({compiled.cost:.3%} of full training)",
        highlight=False,
        soft_wrap=True,
    )


def calibrate(
    task: TaskOption,
    schedule: Annotated[
        Path | None, typer.Option(help="Measure the rates of this schedule; default: the space's levels.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("calibration.json"),
) -> None:
    """Measure seconds of a training step on this device: budgets in time or money need them."""
    from explorer.training.calibration import Calibration
    from explorer.training.device import device_for, device_name

    loaded = Schedule.load(schedule) if schedule else None
    opened, file = load_task(task, loaded)
    if loaded:
        rates = [stage.rates for stage in loaded.stages]
    elif isinstance(file, SearchSpace) and file.search.tied:
        rates = file.search.tied_rates()
    else:
        raise InvalidInput("schedule", None, "is needed: only a search space with tied rates says which rates to measure")
    device = device_for(file.resources.gpus)
    measured = Calibration.measure(opened, (*rates, Rates()), device)
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(step.rates for step in measured.steps)
    for name in (*axes, "ms a step", "of the full step", "GFLOPs/step", "of the full step"):
        table.add_column(name, justify="right")
    full = next(step.seconds for step in measured.steps if step.rates.full)
    full_flops = opened.step_cost(Rates()).flops
    for step in measured.steps:
        flops = opened.step_cost(step.rates).flops
        shown = (f"{getattr(step.rates, axis):.3g}" for axis in axes)
        numbers = (
            f"{1000 * step.seconds:.4g}",
            f"{step.seconds / full:.2f}",
            f"{flops / 1e9:.4g}",
            f"{flops / full_flops:.2f}",
        )
        table.add_row(*shown, *numbers)
    console.print(table)
    console.print(
        f"batch {opened.batch_size} on {device_name(device)}; saved {measured.save(out)}", highlight=False, soft_wrap=True
    )


def train(
    schedule: ScheduleOption,
    task: TaskOption,
    budget: BudgetOption,
    out: Annotated[Path | None, typer.Option(help="Folder for weights and results; default: runs/<schedule>-<budget>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the seed the schedule was measured with, or 0.")] = None,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
    workers: Annotated[int, typer.Option(help="Processes, or GPUs, that share each batch, by Ray Train.", min=1)] = 1,
    address: Annotated[str | None, typer.Option(help="With --workers: Ray cluster (auto); default: this machine.")] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Minutes between checkpoints in a segment.", min=0)] = 15,
    track: Annotated[
        list[str] | None, typer.Option(help="mlflow or wandb, beside metrics.csv and TensorBoard's files.")
    ] = None,
) -> None:
    """Train with a schedule and save weights that plain timm loads; the same command goes on where it stopped.

    Under torchrun, its processes share each batch: torchrun --nproc-per-node 8 -m explorer train ...
    """
    from explorer.production.run import WEIGHTS, Run, train_to_folder
    from explorer.production.verdict import transfer_warning, verdict
    from explorer.training.distributed import torchrun
    from explorer.training.loop import TrainingError

    loaded = Schedule.load(schedule)
    found = _compiled(loaded, task, budget, calibration, price)
    provenance, spec = loaded.provenance, found.task.spec
    run = Run(
        task=spec,
        plan=found.plan,
        seed=seed if seed is not None else provenance.seed if provenance else 0,
        threads=found.resources.cpus,
        device=found.device,
        out=out or Path("runs") / f"{schedule.stem}-{found.plan.budget.slug}",
        checkpoint_every=60 * checkpoint_every,
        loggers=checked_loggers(track or (), "track"),
    )
    with torchrun(found.device == "cuda") as together:
        count = max(workers, together.count)
        if workers > 1 and together.count > 1:
            raise InvalidInput("workers", workers, "must be left out under torchrun, which says it")
        if count > 1 and not found.plan.budget.counted:
            raise InvalidInput("budget", str(found.plan.budget), "must be counted: step times are of one device")
        try:
            if not together.is_main:
                train_to_folder(run, Console(quiet=True), together)
                return
            warn(transfer_warning(loaded, spec))
            if workers > 1:
                from explorer.production.ray_workers import device_on_ray, train_on_ray

                run = replace(run, device=device_on_ray(found.resources.gpus, address))
            if found.resources.gpus and run.device == "cpu":
                warn(f"resources.gpus is {found.resources.gpus:g}, but there is no GPU: training on the CPU")
            result = train_on_ray(run, workers, address, console) if workers > 1 else train_to_folder(run, console, together)
        except TrainingError as error:
            if together.is_main:
                print(f"explorer: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
    lines = [*verdict(loaded, spec, found.plan, result), f"weights: {run.out / WEIGHTS}"]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Compiled:
    """What plan, train and calibrate work on: a schedule for a task."""

    plan: Plan
    task: Task
    resources: Resources
    device: str


def _compiled(schedule: Schedule, task_path: Path, budget: str, calibration: Path | None, price: float | None) -> _Compiled:
    """The plan of a schedule; with measured step times where a calibration is given."""
    from explorer.plan import compile_plan
    from explorer.training.calibration import Calibration
    from explorer.training.device import device_for

    parsed = Budget.parse(budget).priced(price)
    task, file = load_task(task_path, schedule)
    device = device_for(file.resources.gpus)
    if parsed.device and parsed.device != (kind := "CPU" if device == "cpu" else "GPU"):
        gpus = f"resources.gpus: {file.resources.gpus:g}"
        raise InvalidInput("budget", str(parsed), f"training would be on a {kind} here ({gpus})")
    cost = Calibration.load(calibration).step_cost(task, device) if calibration else task.step_cost
    return _Compiled(compile_plan(schedule, task, parsed, cost), task, file.resources, device)


def _plan_table(compiled: Plan, peak: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(segment.rates for segment in compiled.segments)
    times = ("ms/step", "seconds") if compiled.seconds is not None else ()
    for name in ("stage", *axes, "share", "epochs", "steps", "GFLOPs/step", *times, "cost", "learning rate"):
        table.add_column(name, justify="right", no_wrap=True)
    spent = 0
    for row in compiled.stages():
        spent += row.flops
        table.add_row(
            str(row.stage + 1),
            *(f"{getattr(row.rates, axis):.3g}" for axis in axes),
            f"{row.share:.1%}",
            f"{compiled.epochs(row.steps):.2f}",
            f"{row.steps:,}",
            f"{row.step_flops / 1e9:.4g}",
            *((f"{1000 * row.seconds / row.steps:.4g}", f"{row.seconds:,.1f}") if row.seconds is not None else ()),
            f"{spent / compiled.full_flops:.3%}",
            " > ".join(f"{factor * peak:.1e}" for factor in row.factors),
        )
    return table
