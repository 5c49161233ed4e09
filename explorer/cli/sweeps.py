"""The commands that run and read sweeps: `sweep`, `report`, `best`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from explorer.cli.schedule_table import print_stages
from explorer.cli.shared import BudgetOption, PriceOption, StorageOption, SweepArgument, check_and_print, console, warn
from explorer.console import print_line
from explorer.errors import InvalidInput
from explorer.files import refused_if_unwritable
from explorer.ledger import find_sweep
from explorer.spec.budget import Budget

if TYPE_CHECKING:
    import pandas as pd

    from explorer.ledger import SweepHeader


def sweep(
    space: Annotated[Path, typer.Argument(help="Search space file (YAML).")],
    name: Annotated[str | None, typer.Option(help="Name of the sweep; default: the name in the search space.")] = None,
    storage: StorageOption = "sweeps",
    trials: Annotated[
        int | None,
        typer.Option(
            help="Staged trials at the cheapest budget, in place of search.trials: more of them extend a finished sweep.", min=1
        ),
    ] = None,
    spend: Annotated[
        str | None,
        typer.Option(
            help="What all trials may cost together, in place of search.spend: 3 trainings, 2e18 FLOPs, 40 GPU-hours or $40. "
            "It decides the numbers of trials; a larger one extends a finished sweep."
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            "--for", help="Budget that a schedule is wanted for, in place of search.goal: those above it are not searched."
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="limited or exhaustive, in place of search.plan; exhaustive leaves out limit, goal and proxies."),
    ] = None,
    start_from: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="An earlier sweep whose best schedules are tried first (folder, URI, or name under --storage), in place of "
            "search.from; may be given several times.",
        ),
    ] = None,
    no_reuse: Annotated[
        bool,
        typer.Option(
            "--no-reuse",
            help="Train what another sweep under --storage has trained in exactly the same way, too; by default, such a trial "
            "has the result of the other one.",
        ),
    ] = False,
    retry: Annotated[
        str, typer.Option(help="Failed trials of earlier runs to try again: failed (those that did not diverge) or none.")
    ] = "failed",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster (auto: the one this machine belongs to; local: start Ray here); default: local."
        ),
    ] = None,
    parallel_trials: Annotated[
        int | None,
        typer.Option(help="Number of trials that run in parallel at most; default: as many as the cluster can.", min=1),
    ] = None,
    wait_for_nodes: Annotated[
        float,
        typer.Option(help="Seconds to wait for a node with room for a trial; for clusters that add nodes on demand.", min=0),
    ] = 0.0,
    mix_versions: Annotated[
        bool,
        typer.Option("--mix-versions", help="Resume with other versions of torch or timm than the sweep was started with."),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File written by `explorer calibrate`, for a sweep in device-seconds; by default, step times "
            "are measured where the trials run."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what will be trained on, the number of trials, their cost and time, and how a spending limit is "
            "divided; train nothing.",
        ),
    ] = False,
) -> None:
    """Run a sweep; the same command resumes an interrupted one."""
    from explorer.search.known_schedules import check_known_schedules
    from explorer.search.proxy_checks import proxy_warnings
    from explorer.spec.search_space import SearchSpace
    from explorer.sweep.completeness import failures_line
    from explorer.sweep.driver import Retry, Sweep
    from explorer.training.calibration import Calibration
    from explorer.training.task import Task

    loaded = SearchSpace.load(space)
    given = Calibration.load(calibration) if calibration else None
    planned = Sweep(
        loaded,
        storage,
        name=name,
        trials=trials,
        spend=spend,
        goal=goal,
        plan=plan,
        start_from=start_from,
        reuse=not no_reuse,
        retry=cast(Retry, retry),  # Sweep checks the value
        address=address,
        parallel_trials=parallel_trials,
        wait_for_nodes=wait_for_nodes,
        mix_versions=mix_versions,
        step_times=given,
        console=console,
    )
    warn(*check_known_schedules(loaded), *proxy_warnings(planned.space))
    if dry_run:
        warn(*Task(loaded.task).warnings)
        from explorer.report.trained_on import inventory_facts, trained_on
        from explorer.search.forecast import forecast
        from explorer.sweep.cluster_machines import machines_at, step_times_at

        checked = check_and_print(planned.space.task.data, "sample")
        header = planned.header(checked.inventory)
        printed = {"data", *inventory_facts(checked.inventory)}
        for name, text in trained_on(header).items():
            if name not in printed:
                print_line(console, f"{name}: {text}")
        readable = planned.space.with_data(checked.spec)
        machines, table = machines_at(address, readable), planned.ledger.step_times() or given
        if table is None and readable.currency == "device_seconds":
            table = step_times_at(address, readable)
        if begun := planned.begun(checked.inventory, table):
            print_line(console, f"{len(begun.records)} trials are in the ledger: the forecast is of what is left")
            for sentence in begun.search.limit_lines():
                print_line(console, sentence)
        expected = forecast(readable, machines, table, planned.earlier_sweeps, begun)
        if expected.warm_starts:
            print_line(console, "\n".join(expected.warm_starts))
        if (allocation := expected.allocation_table()) is not None:
            console.print(allocation)
        if expected.spending is not None:
            print_line(console, expected.spending_summary())
            if expected.trials:
                print_line(console, "as a search with random results goes:")
        if expected.trials:
            console.print(expected.table())
        print_line(console, expected.summary(planned.space, parallel_trials))
        return
    finished = planned.run()
    records = finished.ledger.records()
    if line := failures_line(records):
        print_line(console, line)
    quoted = shlex.quote(finished.location)
    print_line(console, f"ledger: {finished.location}\nnext: explorer report {quoted}")
    if wanted := str(goal or finished.space.search.goal or ""):
        print_line(console, f"schedule for {wanted}: explorer best {quoted} --budget {shlex.quote(wanted)} --out best.json")
    if missing := finished.lacking:
        print_line(console, "\n".join(missing))
        raise typer.Exit(1)


def report(
    sweeps: Annotated[
        list[str], typer.Argument(help="Sweeps, as folders, URIs or names under --storage; several are compared on one page.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/<sweep>.")] = None,
    storage: StorageOption = "sweeps",
    price: Annotated[float | None, typer.Option(help="Price of a device-hour; adds money to the units of cost.")] = None,
    png: Annotated[bool, typer.Option("--png", help="Also write frontier.png and timeline.png.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Also write both figures as SVG.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write both figures as PDF, for LaTeX.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Update the report while trials finish; the page reloads itself.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="With --watch: seconds between updates.")] = 10,
) -> None:
    """Write the report of a sweep: the page, frontier.csv and schedules; or one page that compares several sweeps."""
    from explorer.report.compare import write_comparison
    from explorer.report.loaded_sweep import LoadedSweep
    from explorer.report.page import write_report
    from explorer.report.pictures import Format, write_pictures
    from explorer.report.watch import follow

    ledgers = [find_sweep(sweep, storage) for sweep in sweeps]
    folder = out or Path("reports") / "-vs-".join(ledger.header().name for ledger in ledgers)
    choices: tuple[tuple[Format, bool], ...] = (("png", png), ("svg", svg), ("pdf", pdf))
    formats = [kind for kind, wanted in choices if wanted]
    if formats and len(ledgers) > 1:
        raise InvalidInput(f"--{formats[0]}", " ".join(sweeps), "pictures can be drawn of one sweep only")
    if watch and formats:
        raise InvalidInput(
            "--watch", f"--{formats[0]}", "cannot be combined: pictures are drawn once; leave one of the two out"
        )

    def write(watching: int | None) -> str:
        try:
            if len(ledgers) > 1:
                return str(write_comparison(ledgers, folder, price=price, watch=watching))
            written = write_report(ledgers[0], folder, price=price, watch=watching)
        finally:  # also where no record could be read
            for ledger in ledgers:
                warn(ledger.warning)
        schedules = f"{folder / 'schedules'}: {', '.join(written.schedules)}"
        return f"{written.headline}\n{written.page}\n{written.table}\n{schedules}"

    def say(text: str) -> None:
        print_line(console, text)

    if watch:
        follow(ledgers, write, every, say)
        return
    say(write(None))
    if formats:
        for path in write_pictures(LoadedSweep.read(ledgers[0]), folder, formats):
            say(str(path))


def best(
    sweep: SweepArgument,
    budget: BudgetOption,
    out: Annotated[Path | None, typer.Option(help="File to save the schedule to; default: <sweep>-<budget>.json.")] = None,
    storage: StorageOption = "sweeps",
    price: PriceOption = None,
    stages_only: Annotated[
        bool, typer.Option("--stages-only", help="Leave out learning rate, batch size and seed, for use on another task.")
    ] = False,
) -> None:
    """Print and save the best schedule for a budget."""
    from explorer.frontier import best_by_budget, best_schedule, trials_frame
    from explorer.frontier.untrained import measured_at

    ledger = find_sweep(sweep, storage)
    header, parsed = ledger.header(), Budget.parse(budget)
    if price is not None:
        parsed = parsed.priced(price)
    trials = trials_frame(ledger.records(), header)
    warn(ledger.warning)
    schedule = best_schedule(trials, header, parsed, ledger.step_times())
    print_stages(schedule)
    winners = best_by_budget(trials)
    measured = measured_at(winners, trials, header, parsed)
    if not measured.empty and parsed.unit != measured.budget_unit.iloc[0]:
        print_line(console, f"{parsed} is {measured.budget.iloc[0]}, which was trained")
    for line in _predicted_lines(winners, trials, header, parsed) if measured.empty else _measured_lines(measured):
        print_line(console, line)
    for line in () if measured.empty else _time_lines(measured, winners, trials):
        print_line(console, line)
    if stages_only:
        schedule = schedule.model_copy(update={"provenance": None})
    path = out or Path(f"{header.name}-{parsed.slug}.json")
    with refused_if_unwritable("out", path):
        print_line(console, f"saved {schedule.save(path)}")


def _measured_lines(measured: pd.DataFrame) -> Iterator[str]:
    """What was measured at a budget, from the rows of its winners."""
    from explorer.frontier import compare_budgets
    from explorer.frontier.trials import metric_of, rows
    from explorer.report.headline import verdict_text

    for row in rows(measured):
        kind = "staged" if row.kind == "staged" else "baseline"
        metric, interval = row.metric, "equal seeds, no interval"
        if row.test_low == row.test_low:
            interval = f"95 % interval {metric.interval_text(row.test_low, row.test_high, 1)}"
        seeds = "one seed, no interval" if row.seeds == 1 else f"mean of {row.seeds} seeds, {interval}"
        validation, test = (metric.score_text(mean, 1) for mean in (row.validation_mean, row.test_mean))
        also = "" if row.also is None else f"; test {row.also.label} {row.also.text(row.also_test, 1)}"
        yield f"best {kind}: validation {validation}, test {test} ({seeds}){also}"
    metric = metric_of(measured)
    if metric.name != "accuracy":
        yield f"compared by {metric.label}, of which {metric.better} values are better; {_NOT_PREDICTED}"
    for comparison in compare_budgets(measured):
        yield f"staged training against the baseline, on test data: {verdict_text(comparison)}"


def _time_lines(measured: pd.DataFrame, winners: pd.DataFrame, trials: pd.DataFrame) -> Iterator[str]:
    """How long the winners of a budget trained: equal FLOPs are not equal time."""
    from explorer.frontier.equal_time import devices, measured_full_seconds, share_of_full_seconds
    from explorer.frontier.trials import rows

    if len(several := devices(trials)) > 1:
        yield f"time: not compared, since trials ran on {', '.join(several)}"
        return
    full_seconds, times = measured_full_seconds(winners), []
    for row in rows(measured[measured.train_seconds > 0]):
        share = share_of_full_seconds(row, full_seconds)
        of_full = "" if math.isnan(share) else f", {share:.1%} of full training"
        took = _device_seconds(row.train_seconds)
        if row.currency == "device_seconds":  # the share is of what was planned
            times.append(f"{row.kind} planned {_device_seconds(row.planned_seconds)}{of_full}, took {took}")
        else:
            times.append(f"{row.kind} {took}{of_full}")
    if times:
        yield f"time: {'; '.join(times)}"


def _device_seconds(seconds: float) -> str:
    return f"{seconds:,.1f} device-seconds" if seconds >= 1 else f"{seconds:.2g} device-seconds"


_NOT_PREDICTED = "budgets that were not trained are predicted for accuracy alone"


def _predicted_lines(winners: pd.DataFrame, trials: pd.DataFrame, header: SweepHeader, budget: Budget) -> Iterator[str]:
    """What is predicted at a budget that was not trained."""
    from explorer.frontier import untrained_budget

    untrained = untrained_budget(winners, trials, header, budget)
    yield f"{budget} was not trained: the schedule is that of {untrained.neighbour.budget}, the accuracies are predicted"
    for kind in untrained.curves:
        mean, low, high = (float(values[0]) for values in untrained.expected(kind))
        yield f"best {kind}: test {mean:.2%} (predicted, 95 % interval {low:.2%} to {high:.2%})"
    for kind, reason in untrained.obstacles.items():
        yield f"best {kind}: not predicted: {reason}"
