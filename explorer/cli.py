"""The command line. Bad input ends in one line and exit code 2; torch and ray are imported where they are needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from explorer.budget import Budget
from explorer.errors import InvalidInput
from explorer.ledger import find_sweep
from explorer.plan import Plan
from explorer.schedule import AXES, Rates, Schedule, shown_axes

if TYPE_CHECKING:
    from explorer.elastic.coverage import Coverage
    from explorer.sweep.space import Resources, SearchSpace
    from explorer.training.task import Task

app = typer.Typer(
    help="How accurate can this vision transformer get for this much training, and by which schedule?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Files and pipes have no width of their own: tables need more than the 80 columns assumed for them.
console = Console(width=None if sys.stdout.isatty() else 120)

StorageOption = Annotated[str, typer.Option(help="Folder or URI under which sweeps stand.")]
SweepArgument = Annotated[str, typer.Argument(help="A sweep's folder, URI, or name under --storage.")]
SpaceOption = Annotated[Path, typer.Option("--space", help="Search space whose task (model, data, recipe) is trained.")]
ScheduleOption = Annotated[Path, typer.Option("--schedule", help="Schedule file (JSON or YAML).")]
BudgetOption = Annotated[str, typer.Option("--budget", help="25%, 0.25 (of full training), 3e17 FLOPs, 12 GPU-hours or $40.")]
CalibrationOption = Annotated[
    Path | None, typer.Option("--calibration", help="What `explorer calibrate` wrote: for budgets in time or money.")
]
PriceOption = Annotated[float | None, typer.Option("--price", help="Price of a device-hour: for budgets in money.")]


@app.command()
def sweep(
    space: Annotated[Path, typer.Argument(help="Search space (YAML).")],
    name: Annotated[str | None, typer.Option(help="Name of the sweep; default: the space's.")] = None,
    storage: StorageOption = "sweeps",
    trials: Annotated[int | None, typer.Option(help="Staged trials at each budget, instead of the space's number.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to use (auto); default: this machine alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it will cost; train nothing.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="For --dry-run: trials side by side; default: this machine's.", min=1)
    ] = None,
) -> None:
    """Start a sweep, or go on where it stopped."""
    from explorer.sweep.run import Sweep
    from explorer.sweep.space import SearchSpace
    from explorer.training.task import Task

    loaded = SearchSpace.load(space)
    _warn(Task(loaded.task))
    planned = Sweep(loaded, storage, name=name, trials=trials, address=address, console=console)
    if dry_run:
        from explorer.sweep.forecast import forecast

        expected = forecast(planned.space)
        console.print(expected.table())
        console.print(expected.summary(planned.space, workers), highlight=False, soft_wrap=True)
        return
    done = planned.run()
    records = done.ledger.records()
    failed = [record for record in records if record.outcome is None]
    if failed:
        console.print(
            f"{len(failed)} of {len(records)} trials failed; the first: {failed[0].reason}", markup=False, highlight=False
        )
    if len(failed) == len(records):
        raise typer.Exit(1)
    console.print(f"ledger: {done.location}\nnext: explorer report {done.location}", highlight=False, soft_wrap=True)


@app.command()
def report(
    sweeps: Annotated[list[str], typer.Argument(help="Sweeps: folders, URIs or names; several are compared in one page.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/<sweep>.")] = None,
    storage: StorageOption = "sweeps",
    price: Annotated[float | None, typer.Option(help="Price of a device-hour: adds money to the units of cost.")] = None,
    png: Annotated[bool, typer.Option("--png", help="Also draw frontier.png and timeline.png.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="The same as vector graphics.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="The same for LaTeX.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Write again while trials finish; the page reloads itself.")] = False,
    every: Annotated[int, typer.Option(min=1, help="With --watch: seconds between two looks.")] = 10,
) -> None:
    """Write the page, frontier.csv and the schedules of a sweep, or a page that compares several."""
    from explorer.report.compare import write_comparison
    from explorer.report.opened import Opened
    from explorer.report.page import write_report
    from explorer.report.pictures import Format, write_pictures
    from explorer.report.watch import follow

    ledgers = [find_sweep(sweep, storage) for sweep in sweeps]
    folder = out or Path("reports") / "-vs-".join(ledger.header().name for ledger in ledgers)
    choices: tuple[tuple[Format, bool], ...] = (("png", png), ("svg", svg), ("pdf", pdf))
    formats = [kind for kind, wanted in choices if wanted]
    if formats and len(ledgers) > 1:
        raise InvalidInput(f"--{formats[0]}", " ".join(sweeps), "pictures are of one sweep")
    if watch and formats:
        raise InvalidInput("--watch", f"--{formats[0]}", "pictures are drawn once; leave one of the two out")

    def write(watching: int | None) -> str:
        if len(ledgers) > 1:
            return str(write_comparison(ledgers, folder, price=price, watch=watching))
        written = write_report(ledgers[0], folder, price=price, watch=watching)
        return f"{written.headline}\n{written.page}\n{written.table}\n{folder / 'schedules'}: {', '.join(written.schedules)}"

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    if watch:
        follow(ledgers, write, every, say)
        return
    say(write(None))
    if formats:
        for path in write_pictures(Opened.read(ledgers[0]), folder, formats):
            say(str(path))


@app.command()
def best(
    sweep: SweepArgument,
    budget: BudgetOption,
    out: Annotated[Path | None, typer.Option(help="File to save the schedule to; default: <sweep>-<budget>.json.")] = None,
    storage: StorageOption = "sweeps",
) -> None:
    """Print and save the schedule to use for a budget."""
    from explorer.frontier import best_by_budget, best_schedule, trials_frame

    ledger = find_sweep(sweep, storage)
    header, trials, parsed = ledger.header(), trials_frame(ledger.records()), Budget.parse(budget)
    schedule = best_schedule(trials, header, parsed)
    measured = best_by_budget(trials)
    _print_stages(schedule)
    for row in measured[measured.budget == str(parsed)].itertuples():
        kind = "staged" if row.kind == "staged" else "full model"
        seeds = "one seed" if row.seeds == 1 else f"mean of {row.seeds} seeds"
        console.print(f"best {kind}: validation {row.validation_mean:.2%}, test {row.test_mean:.2%} ({seeds})", highlight=False)
    path = schedule.save(out or Path(f"{header.name}-{parsed.slug}.json"))
    console.print(f"saved {path}", highlight=False, soft_wrap=True)


@app.command(name="plan")
def plan_command(
    schedule: ScheduleOption,
    space: SpaceOption,
    budget: BudgetOption,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
) -> None:
    """Print what a schedule will cost, stage by stage, before anything runs."""
    found = _compiled(Schedule.load(schedule), space, budget, calibration, price)
    compiled = found.plan
    console.print(_plan_table(compiled, found.task.spec.recipe.learning_rate))
    if compiled.budget.counted:
        planned = f"{compiled.flops:.4g} of {compiled.budget_cost:.4g} FLOPs"
    else:
        planned = f"{compiled.seconds:.4g} of {compiled.budget_cost / 1e9:.4g} device-seconds, {compiled.flops:.4g} FLOPs"
    console.print(
        f"{compiled.steps:,} steps of batch {compiled.batch_size}, {compiled.epochs(compiled.steps):.1f} epochs; planned "
        f"{planned} ({compiled.cost:.3%} of full training)",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def calibrate(
    space: SpaceOption,
    schedule: Annotated[
        Path | None, typer.Option(help="Measure the rates of this schedule; default: the space's levels.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("calibration.json"),
) -> None:
    """Measure seconds of a training step on this device: budgets in time or money need them."""
    from explorer.training.calibration import Calibration
    from explorer.training.device import device_for, device_name

    loaded = Schedule.load(schedule) if schedule else None
    task, read = _task(space, loaded)
    if loaded:
        rates = [stage.rates for stage in loaded.stages]
    elif read.search.tied:
        rates = read.search.tied_rates()
    else:
        raise InvalidInput(
            "schedule", None, "is needed: this space sets each axis by itself, and has too many rates to measure"
        )
    device = device_for(read.resources.gpus)
    measured = Calibration.measure(task, (*rates, Rates()), device)
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(step.rates for step in measured.steps)
    for name in (*axes, "ms a step", "of the full step", "GFLOPs/step", "of the full step"):
        table.add_column(name, justify="right")
    full = next(step.seconds for step in measured.steps if step.rates.full)
    full_flops = task.step_cost(Rates()).flops
    for step in measured.steps:
        flops = task.step_cost(step.rates).flops
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
        f"batch {task.batch_size} on {device_name(device)}; saved {measured.save(out)}", highlight=False, soft_wrap=True
    )


@app.command()
def train(
    schedule: ScheduleOption,
    space: SpaceOption,
    budget: BudgetOption,
    out: Annotated[Path | None, typer.Option(help="Folder for weights and results; default: runs/<schedule>-<budget>.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the seed the schedule was measured with, or 0.")] = None,
    calibration: CalibrationOption = None,
    price: PriceOption = None,
) -> None:
    """Train with a schedule and save weights that plain timm loads; the same command goes on where it stopped."""
    loaded = Schedule.load(schedule)
    found = _compiled(loaded, space, budget, calibration, price)
    from explorer.production.run import WEIGHTS, train_to_folder

    compiled, task = found.plan, found.task

    provenance = loaded.provenance
    seed = seed if seed is not None else provenance.seed if provenance else 0
    folder = out or Path("runs") / f"{schedule.stem}-{compiled.budget.slug}"
    result = train_to_folder(
        task, compiled, seed=seed, threads=found.resources.cpus, device=found.device, out=folder, console=console
    )
    lines = [
        f"cost: {result.flops / compiled.full_flops:.3%} of full training, planned {compiled.cost:.3%}; "
        f"{result.steps:,} steps in {result.seconds:.1f} s"
        + (f", planned {compiled.seconds:.1f} s" if compiled.seconds else ""),
        f"validation accuracy {result.validation_accuracy:.4%}, test accuracy {result.test_accuracy:.4%}",
    ]
    if provenance and provenance.budget == str(compiled.budget):
        lines.append(f"the sweep measured validation accuracy {provenance.validation_accuracy:.4%} with seed {provenance.seed}")
        if provenance.seed == seed:
            same = provenance.validation_accuracy == result.validation_accuracy
            lines[-1] += ": reproduced exactly" if same else ": NOT reproduced (another machine, device or version?)"
    lines.append(f"weights: {folder / WEIGHTS}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Names, as timm.list_models matches them: 'deit*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Families by axes, in Markdown; costs are not counted.")] = False,
) -> None:
    """List timm's transformers: the axes they can be reduced on, and what a training step then costs."""
    from explorer.elastic import coverage

    names = coverage.transformer_names(pattern)
    rows = coverage.coverages(names, count=not summary)
    if not (as_json or summary):
        _print_models(rows, names)
        return
    progress = Console(stderr=True)
    done = list(track(rows, "models", total=len(names), console=progress, transient=True, disable=not progress.is_terminal))
    print(json.dumps([row.as_dict() for row in done], indent=2) if as_json else "\n".join(coverage.summary(done)))


def _print_models(rows: Iterable[Coverage], names: list[str]) -> None:
    """One line a model as soon as it is known: counting takes seconds for each."""
    widths = (max(map(len, names)), 22, 5, 9, 7, 6, 6, 11, 11, 8)
    titles = ("model", "axes", "heads", "mlp", "tokens", "depth", "policy", "full GFLOPs", "half GFLOPs", "fraction")

    def show(*cells: str, style: str | None = None) -> None:
        aligned = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
        ]
        console.print("  ".join(aligned).rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)

    console.print(
        "smallest rate on each axis; GFLOPs of a training step an image, at full and at .5 on every axis but depth",
        highlight=False,
    )
    show(*titles, style="bold")
    resizable = 0
    for row in rows:
        if row.reason:
            console.print(
                f"{row.name.ljust(widths[0])}  cannot be resized: {row.reason}", markup=False, highlight=False, soft_wrap=True
            )
            continue
        resizable += 1
        smallest = [_rate(getattr(row.smallest, axis)) if axis in row.axes else "-" for axis in AXES]
        flops = [f"{(value or 0) / 1e9:.4g}" for value in (row.full_flops, row.half_flops)]
        show(row.name, " ".join(row.axes), *smallest, row.tokens, *flops, f"{row.half_fraction or 0:.2f}")
    console.print(f"{resizable} of {len(names)} can be resized", highlight=False)


def _rate(value: float) -> str:
    """1/6 where that is what it is, else .364."""
    whole = Fraction(value).limit_denominator(100_000)
    return str(whole) if whole.numerator == 1 else f"{value:.3g}"


@dataclass(frozen=True)
class _Compiled:
    """What plan, train and calibrate work on: a schedule for a space's task."""

    plan: Plan
    task: Task
    resources: Resources
    device: str


def _task(space_path: Path, schedule: Schedule | None) -> tuple[Task, SearchSpace]:
    """A space's task, with the settings that the schedule was measured with, on so many threads as a trial has."""
    import torch

    from explorer.sweep.space import SearchSpace
    from explorer.training.task import Task

    space = SearchSpace.load(space_path)
    task = Task(space.task.measured_as(schedule.provenance if schedule else None))
    _warn(task)
    torch.set_num_threads(space.resources.cpus)
    return task, space


def _compiled(schedule: Schedule, space_path: Path, budget: str, calibration: Path | None, price: float | None) -> _Compiled:
    """The plan of a schedule; with measured step times where a calibration is given."""
    from explorer.plan import plan
    from explorer.training.calibration import Calibration
    from explorer.training.device import device_for

    parsed = Budget.parse(budget).priced(price)
    task, space = _task(space_path, schedule)
    device = device_for(space.resources.gpus)
    cost = Calibration.load(calibration).step_cost(task, device) if calibration else task.step_cost
    return _Compiled(plan(schedule, task, parsed, cost), task, space.resources, device)


def _warn(task: Task) -> None:
    if task.warning:
        print(f"explorer: warning: {task.warning}", file=sys.stderr)


def _plan_table(compiled: Plan, peak: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(segment.rates for segment in compiled.segments)
    for name in ("stage", *axes, "share", "epochs", "steps", "GFLOPs/step", "cost", "learning rate"):
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
            f"{spent / compiled.full_flops:.3%}",
            f"{row.first_factor * peak:.1e} > {row.last_factor * peak:.1e}",
        )
    return table


def _print_stages(schedule: Schedule) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    axes = shown_axes(stage.rates for stage in schedule.stages)
    for name in ("stage", *axes, "share of the budget"):
        table.add_column(name, justify="right")
    for number, stage in enumerate(schedule.stages, start=1):
        rates = (f"{getattr(stage.rates, axis):.3g}" for axis in axes)
        table.add_row(str(number), *rates, f"{stage.duration_ratio:.1%}")
    console.print(table)
    if schedule.provenance:
        settings = f"learning rate {schedule.provenance.learning_rate:.4g}, batch {schedule.provenance.batch_size}"
        console.print(f"trained with {settings}, seed {schedule.provenance.seed}", highlight=False)


def main() -> None:
    """Entry point: `InvalidInput` becomes one line and exit code 2."""
    try:
        app()
    except InvalidInput as error:
        print(f"explorer: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
