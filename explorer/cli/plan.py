"""The commands that prepare a training: `plan` and `calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

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
    load_task,
    warn,
)
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.files import check_writable
from explorer.plan import Plan, PlannedStage
from explorer.spec.budget import GMAC
from explorer.spec.rates import Axis, Rates, shown_axes
from explorer.spec.search_space import SearchSpace

if TYPE_CHECKING:
    from explorer.spec.task import TaskSpec
    from explorer.spec.task_file import Resources
    from explorer.training.calibration import Calibration, Variant
    from explorer.training.task import Task


def plan(
    schedule: ScheduleOption,
    task: TaskOption,
    budget: BudgetOption,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Processes that will train together, as in a calibration; default: as many as --task has in resources.",
            min=1,
        ),
    ] = None,
) -> None:
    """Print what training with a schedule will cost, stage by stage; train nothing."""
    from explorer.production.verdict import expectation, transfer_warning

    loaded = load_named_schedule(schedule, task)
    count, _ = check_processes(processes, task)
    compiled = compile_for_task(loaded, task, budget, calibration, price, "sample", count, trains=False)
    warn(transfer_warning(loaded, compiled.task.spec, compiled.inventory))
    task_plan = compiled.plan
    console.print(_plan_table(task_plan, compiled.task.spec.recipe.learning_rate))
    weaker = [f"stage {row.stage + 1} {row.augmentation}" for row in task_plan.stages() if not row.augmentation.full]
    if weaker:  # not in the table, which is as wide as 120 columns allow
        print_line(console, f"shares of the recipe's augmentation: {'; '.join(weaker)}")
    in_paper_unit = "" if task_plan.budget.unit == "GMACs-epochs" else f"; {task_plan.gmacs_epochs:.4g} GMACs-epochs"
    if task_plan.budget.unit == "GMACs-epochs":
        planned = f"{task_plan.gmacs_epochs:.6g} of {task_plan.budget}, {task_plan.flops:.4g} FLOPs"
    elif task_plan.currency == "flops":
        planned = f"{task_plan.flops:.4g} of {task_plan.budget_cost:.4g} FLOPs"
    else:
        device = task_plan.budget.device or "device"
        planned = f"{task_plan.seconds:.4g} of {task_plan.budget_cost / 1e9:.4g} {device}-seconds, {task_plan.flops:.4g} FLOPs"
    sizes = {row.batch_size for row in task_plan.stages()}
    batches = f"{min(sizes)} to {max(sizes)}" if len(sizes) > 1 else f"{task_plan.batch_size}"
    print_line(
        console,
        f"{task_plan.steps:,} steps of batch {batches}, {task_plan.epochs(task_plan.steps):.1f} epochs; planned "
        f"{planned} ({task_plan.cost:.3%} of full training{_of_what(task_plan)}{in_paper_unit})",
    )
    if len(task_plan.stages()) > 1:
        print_line(console, f"growth initialization: {compiled.task.growth}")
    if (line := expectation(loaded, compiled.task.spec, compiled.inventory, task_plan)) is not None:
        print_line(console, line)


def calibrate(
    task: TaskOption,
    schedule: Annotated[
        Path | None,
        typer.Option(help="Measure the rates of this schedule; default: what a sweep over the search space measures."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("calibration.json"),
    processes: ProcessesOption = None,
    address: AddressOption = None,
) -> None:
    """Measure the seconds of a training step on this device, which budgets in time or money need.

    Under torchrun, its processes divide each batch: torchrun --nproc-per-node 8 -m explorer calibrate ...
    """
    from explorer.search.step_times import SECONDS, measured_first
    from explorer.training.calibration import MEASURED_SECONDS, Calibration, Variant
    from explorer.training.device import device_for
    from explorer.training.distributed import Processes, torchrun

    check_writable("out", out)
    loaded = load_named_schedule(schedule, task) if schedule else None
    opened, file = load_task(task, loaded)
    warn(*opened.warnings)
    if loaded:
        variants, seconds = [Variant(stage.rates, opened.batch_size) for stage in loaded.stages], MEASURED_SECONDS
        opened = Variant(Rates(), file.task.recipe.batch_size).of(opened)  # full training, 100 %, is that of the file's recipe
    elif isinstance(file, SearchSpace):
        variants, seconds = measured_first(file), SECONDS
    else:
        raise InvalidInput("schedule", None, "is required unless --task is a search space")
    count, by_ray = check_processes(processes, task)
    for size in {opened.batch_size, *(variant.batch_size for variant in variants)}:
        Processes(0, count).local_slice(size)
    if by_ray:
        measured = _calibrated_on_ray(opened.spec, variants, seconds, file.resources, count, address, out)
    else:
        device = device_for(file.resources.gpus)
        with torchrun(device == "cuda") as together:
            measured = Calibration.measure_variants(opened, variants, device, seconds=seconds, processes=together)
            if not together.is_main:
                return
        measured.save(out)
    console.print(_calibration_table(measured, opened))
    setting = measured.setting
    each = f"{setting.processes} processes, each on " if setting.processes > 1 else ""
    print_line(console, f"batch {opened.batch_size} on {each}{setting.device}; saved {out}")


def _calibrated_on_ray(
    task: TaskSpec,
    variants: list[Variant],
    seconds: float,
    resources: Resources,
    processes: int,
    address: str | None,
    out: Path,
) -> Calibration:
    """Measure in processes on a Ray cluster."""
    from explorer.production.ray_workers import Workers, calibrate_on_ray, device_on_ray
    from explorer.training.errors import TrainingError

    workers = Workers(processes, resources.cpus, device_on_ray(resources.gpus, address), address)
    try:
        return calibrate_on_ray(task, variants, workers, out, seconds)
    except TrainingError as error:
        print(f"explorer: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _calibration_table(measured: Calibration, task: Task) -> Table:
    """Seconds and FLOPs of a step at each of the rates, also as fractions of the full model's."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(step.rates for step in measured.steps)
    for name in (*axes, "ms/step", "input", "of full", "GFLOPs/step", "of full"):
        table.add_column(name, justify="right")
    full = next(step.seconds for step in measured.steps if step.rates.full)
    full_flops = task.step_cost(Rates()).flops
    for step in measured.steps:
        if step.batch_size or step.staging:  # the step of another batch size has other FLOPs
            continue
        flops = task.step_cost(step.rates).flops
        table.add_row(
            *(f"{getattr(step.rates, axis):.3g}" for axis in axes),
            f"{1000 * step.seconds:.4g}",
            f"{(step.input_seconds or 0) / step.seconds:.0%}",
            f"{step.seconds / full:.2f}",
            f"{flops / 1e9:.4g}",
            f"{flops / full_flops:.2f}",
        )
    return table


def _of_what(task_plan: Plan) -> str:
    """Says that shares are of device-seconds, and what the plan costs in FLOPs; empty for a plan that counts FLOPs."""
    if task_plan.currency == "flops":
        return ""
    return f" in device-seconds, {task_plan.cost_after(task_plan.steps, 'flops'):.3%} in FLOPs"


def _plan_table(compiled: Plan, peak: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(segment.rates for segment in compiled.segments)
    times = ("ms/step", "seconds") if compiled.seconds is not None else ()
    rows = compiled.stages()
    batch = ["batch"] if any(row.batch_size != compiled.batch_size for row in rows) else []
    macs = () if times else ("GMACs/image",)  # 120 columns have no room for both
    costs = ("GFLOPs/step", *macs, *times, "cost", "learning rate")
    for name in ("stage", *axes, "share", "epochs", "steps", *batch, *costs):
        table.add_column(name, justify="right", no_wrap=True)
    steps = 0
    for row in rows:
        steps += row.steps
        table.add_row(
            str(row.stage + 1),
            *(_rate(row, axis) for axis in axes),
            f"{row.share:.1%}",
            f"{row.epochs:.2f}",
            f"{row.steps:,}",
            *(str(row.batch_size) for _ in batch),
            f"{row.step_flops / 1e9:.4g}",
            *(f"{(row.step_forward_macs or 0) / row.batch_size / GMAC:.4g}" for _ in macs),
            *((f"{1000 * row.seconds / row.steps:.4g}", f"{row.seconds:,.1f}") if row.seconds is not None else ()),
            f"{compiled.cost_after(steps):.3%}",
            " > ".join(f"{factor * peak:.1e}" for factor in row.factors),
        )
    return table


def _rate(row: PlannedStage, axis: Axis) -> str:
    """The realised fraction; numbers and lists as they were requested, since they are realised as they are."""
    plain = isinstance(getattr(row.requested, axis), float)
    return (row.rates if plain else row.requested).text(axis)
