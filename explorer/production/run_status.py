"""How far a production run is: `progress.json`, and its display on the console."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from explorer.console import print_line
from explorer.files import write_file
from explorer.training.progress import Progress

PROGRESS = "progress.json"
PRINT_INTERVAL_SECONDS = 60.0
"""Time between two printed lines if there is no terminal."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is: the content of `progress.json`."""

    spent: float
    """Spent share of the budget."""
    cost: float
    """Planned cost so far as a fraction of full training, in the currency of the plan."""
    stage: int
    """Number of the present stage, from 1."""
    loss: float
    """Mean loss of the present segment so far."""
    seconds_left: float
    """Remaining training time, if the planned time of a step, or a FLOP where steps were not measured, takes as long as so far
    on average."""
    drift: str = ""
    """The last line that says that the run takes more, or less, time than planned."""

    @classmethod
    def of(cls, progress: Progress, drift: str = "") -> RunStatus:
        """The status of a run in this process."""
        plan, last = progress.plan, progress.parts[-1]
        done, whole = float(progress.flops), float(plan.flops)
        if plan.seconds is not None and progress.planned_seconds is not None:
            done, whole = progress.planned_seconds, plan.seconds / progress.processes
        spent = progress.flops / plan.flops if plan.currency == "flops" else done / whole
        return cls(
            spent=spent,
            cost=progress.flops / plan.full_flops if plan.currency == "flops" else plan.cost_after(progress.steps),
            stage=last.stage + 1,
            loss=last.mean_loss,
            seconds_left=progress.seconds / done * (whole - done),
            drift=drift,
        )

    @classmethod
    def read(cls, out: Path) -> RunStatus | None:
        """The status of a run in another process; `None` if it has not written any."""
        try:
            return cls(**json.loads((out / PROGRESS).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def save(self, out: Path) -> None:
        """Write it for other processes."""
        write_file(out / PROGRESS, json.dumps(asdict(self)) + "\n")


class BudgetBar:
    """Shows the spent share of the budget and the remaining time: a bar on a terminal, otherwise a line per minute."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"))
        self._console, self._last_printed = console, -math.inf
        self._bar = ProgressBar(*columns, console=console)
        self._task = self._bar.add_task("", total=1.0, rest="")
        self._drift = ""

    def __enter__(self) -> BudgetBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def show(self, status: RunStatus) -> None:
        """Show a status. Nothing is shown before the first one."""
        stage = f"stage {status.stage}, loss {status.loss:.3f}"
        spent = f"{status.spent:.0%} of the budget"
        left = f"{timedelta(seconds=round(status.seconds_left))} left"
        if status.drift and status.drift != self._drift:
            self._drift = status.drift
            print_line(self._console, status.drift)
        if self._console.is_interactive:
            self._bar.start()
            self._bar.update(self._task, completed=status.spent, description=stage, rest=f"{spent}, {left}")
        elif time.monotonic() - self._last_printed >= PRINT_INTERVAL_SECONDS:
            self._last_printed = time.monotonic()
            print_line(self._console, f"{spent}, {stage}, {left}, cost {status.cost:.3%} of full training")
