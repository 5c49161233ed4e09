"""The command `status`: how a sweep stands. Needs neither torch nor ray, and works while the sweep runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from explorer.cli.shared import StorageOption, SweepArgument, console
from explorer.console import print_line
from explorer.ledger import find_sweep

if TYPE_CHECKING:
    from explorer.ledger.status import DriverStatus, SweepStatus

SHOWN_TRIALS = 5
"""Number of trials that are named in a line."""


def status(
    sweep: SweepArgument,
    storage: StorageOption = "sweeps",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, with times in seconds.")] = False,
) -> None:
    """Print what runs, what finished, what failed and why, what was spent, and what is left of a sweep."""
    from explorer.ledger.status import sweep_status

    now = time.time()
    current = sweep_status(find_sweep(sweep, storage), now)
    if as_json:
        content = {**asdict(current), "left_seconds": current.left_seconds}
        typer.echo(json.dumps(content, indent=1))
        return
    _line(f"{current.name}: {_driver_line(current.driver, now)}")
    ended = current.completed + current.failed
    _line(f"finished  {ended} of {current.planned} trials: {current.completed} completed, {current.failed} failed")
    for group in current.failures:
        _line(f"          {len(group.trials)} x {group.reason} ({_named(group.trials)})")
    if current.proxy_trials:
        _line(f"          {current.proxy_trials} of them on proxies")
    for what, sweeps in (("are warm starts from", current.warm_starts), ("have results reused from", current.reused)):
        if sweeps:
            _line(f"          {sum(sweeps.values())} of them {what} other sweeps ({_counted(sweeps)})")
    if current.above_goal:
        _line(f"          {current.above_goal} more at budgets above those of the last run, which wait for a run of those")
    if current.running:
        _line(f"running   {len(current.running)} trials")
        console.print(_running_table(current, now))
    if current.waiting:
        waits_for = "for a worker" if current.driver.state == "running" else "to be resumed"
        _line(f"waiting   {len(current.waiting)} trials {waits_for} ({_named(current.waiting)})")
    _line(f"spent     {_spent(current)}")
    if current.realised_time is not None:
        realised = current.realised_time
        _line(
            f"time      realised over planned: median {realised.median:.3f}, 95 % of trials within {realised.deviation_95:.1%}"
        )
    _line(f"left      {_left(current)}")
    if current.spending:
        _line(f"limit     {current.spending}")
    for reason, count in current.passed_over.items():
        _line(f"passed over: {count} files: {reason}")


def _driver_line(driver: DriverStatus, now: float) -> str:
    if driver.started is None or driver.last_sign is None:
        return "its driver has left no note, so nothing is known about what runs"
    who = f"on {driver.host} (process {driver.pid})"
    ago = f"{duration(now - driver.last_sign)} ago"
    if driver.state == "running":
        return f"running {who} for {duration(now - driver.started)}, last sign of life {ago}"
    if driver.state == "silent":
        return f"no sign of life from its driver {who} since {ago}; if it was killed, `explorer sweep` resumes the sweep"
    reason = f": {driver.reason}" if driver.reason else ""
    return f"{driver.state} {ago} {who}{reason}"


def _running_table(current: SweepStatus, now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("          trial")
    for name in ("budget", "worker", "for", "segments", "full trainings"):
        table.add_column(name, justify="right")
    for trial in current.running:
        segments = f"{trial.segments} of {trial.planned_segments}" if trial.planned_segments else "starting"
        time_so_far = duration(now - trial.since)
        row = (f"          {trial.id}", trial.budget, trial.worker or "-", time_so_far, segments, f"{trial.cost:.3f}")
        table.add_row(*row)
    return table


def _spent(current: SweepStatus) -> str:
    device_seconds = current.spent_device_seconds + current.failed_device_seconds + current.running_device_seconds
    on_proxies = f" ({current.proxy_full_trainings:.2f} on proxies)" if current.proxy_trials else ""
    text = f"{current.spent_full_trainings:.2f} full trainings in completed trials{on_proxies}, {_hours(device_seconds)}"
    parts = (("failed", current.failed_device_seconds), ("running", current.running_device_seconds))
    shown = [f"{_hours(seconds)} in {name} trials" for name, seconds in parts if seconds]
    return f"{text} ({', '.join(shown)})" if shown else text


def _left(current: SweepStatus) -> str:
    if not current.left_trials:
        if current.unaffordable_trials:
            return f"nothing: {current.unaffordable_trials} repeats of the best trials do not fit into the limit"
        return "nothing"
    if current.left_device_seconds is None:
        return f"{current.left_trials} trials; no estimate of the time, because no trial is completed yet"
    text = f"{current.left_trials} trials, about {_hours(current.left_device_seconds)}"
    if current.left_seconds is None:
        return f"{text}; no driver works on them"
    return f"{text}, about {duration(current.left_seconds)} with {current.places} side by side"


def _named(trials: tuple[str, ...]) -> str:
    rest = f", and {len(trials) - SHOWN_TRIALS} more" if len(trials) > SHOWN_TRIALS else ""
    return ", ".join(trials[:SHOWN_TRIALS]) + rest


def _counted(sweeps: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sweeps.items())


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} device-hours"


def duration(seconds: float) -> str:
    """A time span in its two largest units: `2 d 3 h`, `2 h 3 min`, `3 min 4 s`, `4 s`."""
    seconds = max(0, round(seconds))
    days, hours, minutes = seconds // 86_400, seconds // 3600, seconds // 60
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    if minutes:
        return f"{minutes} min {seconds % 60} s"
    return f"{seconds} s"


def _line(text: str) -> None:
    print_line(console, text)
