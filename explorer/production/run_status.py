"""How far a production run is: `progress.json`, and its display on the console."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar

from explorer.console import print_line
from explorer.files import write_file
from explorer.spec.metric import ACCURACY, MetricSpec
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
    warning: str = ""
    """What is wrong now, as a line: the checkpoint cannot be written."""
    validation: float | None = None
    """The objective's metric at the last evaluation during training; `None` if there was none, or it is no number."""
    evaluation: str = ""
    """A line about the last evaluation during training. Before the last stage, it is that of a smaller model."""

    @classmethod
    def of(cls, progress: Progress, drift: str = "", metric: MetricSpec = ACCURACY) -> RunStatus:
        """The status of a run in this process.

        Args:
            progress: the run's progress.
            drift: as the field.
            metric: the metric of the objective.
        """
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
            warning=_checkpoint_warning(progress),
            **_last_evaluation(progress, metric),
        )

    @classmethod
    def read(cls, out: Path) -> RunStatus | None:
        """The status of a run in another process; `None` if it has not written any."""
        try:
            return cls(**json.loads((out / PROGRESS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # none, or somebody else's
            return None

    def save(self, out: Path) -> None:
        """Write it for other processes."""
        write_file(out / PROGRESS, json.dumps(asdict(self)) + "\n")


def _checkpoint_warning(progress: Progress) -> str:
    """That the checkpoint cannot be written; empty if it was written."""
    if not progress.checkpoint_error:
        return ""
    return (
        f"warning: the checkpoint cannot be written: {progress.checkpoint_error}; training continues, the last checkpoint "
        "stays, and writing is tried again when the next one is due"
    )


def _last_evaluation(progress: Progress, metric: MetricSpec) -> dict[str, Any]:
    """The fields of the last evaluation."""
    if not progress.evaluations:
        return {}
    last, stages = progress.evaluations[-1], progress.plan.segments[-1].stage + 1
    value = None if math.isnan(last.values[0]) else last.values[0]
    rates = progress.plan.position(last.steps - 1)[0].rates
    reduced = {axis: rate for axis, rate in rates.model_dump().items() if axis != "tokens" and rate < 1}
    at = f", a smaller model: {', '.join(f'{axis} {rate:.3g}' for axis, rate in reduced.items())}" if reduced else ""
    text = "is no number" if value is None else metric.text(value, 1)
    line = f"validation {metric.label} {text} after step {last.steps} (stage {last.stage + 1} of {stages}{at})"
    return {"validation": value, "evaluation": line}


class BudgetBar:
    """Shows the spent share of the budget and the remaining time: a bar on a terminal, otherwise a line per minute."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rest]}"))
        self._console, self._last_printed = console, -math.inf
        self._bar = ProgressBar(*columns, console=console)
        self._task = self._bar.add_task("", total=1.0, rest="")
        self._printed: set[str] = set()
        """Lines of the last status that are printed once."""

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
        lines = [line for line in (status.drift, status.warning, status.evaluation) if line]
        for line in lines:
            if line not in self._printed:
                print_line(self._console, line)
        self._printed = set(lines)
        if self._console.is_interactive:
            self._bar.start()
            measured = f", {status.evaluation.partition(' after ')[0]}" if status.evaluation else ""
            self._bar.update(self._task, completed=status.spent, description=stage, rest=f"{spent}, {left}{measured}")
        elif time.monotonic() - self._last_printed >= PRINT_INTERVAL_SECONDS:
            self._last_printed = time.monotonic()
            print_line(self._console, f"{spent}, {stage}, {left}, cost {status.cost:.3%} of full training")
