"""Where a production run tells its figures: a CSV file and TensorBoard's event files always, MLflow or W&B where asked.

MLflow and W&B read their own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...).
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.spec.loggers import LoggerName
from explorer.training.progress import Progress

METRICS, RUN_ID = "metrics.csv", "mlflow-run"
Row = dict[str, float]


def rows(progress: Progress, peak: float) -> list[Row]:
    """One row a finished segment: where it ended, and what it did.

    Args:
        progress: of the run.
        peak: learning rate that the plan's factors apply to.
    """
    found, steps, flops = [], 0, 0
    plan = progress.plan
    for segment, done in zip(plan.segments, progress.segments, strict=False):
        steps, flops = steps + done.steps, flops + done.flops
        found.append(
            {
                "step": steps,
                "epoch": plan.epochs(steps),
                "budget_time": segment.end_time,
                "cost": flops / plan.full_flops,
                "stage": segment.stage + 1,
                **segment.rates.model_dump(),
                "learning_rate": peak * segment.learning_rate_factor(segment.steps - 1),
                "loss": done.mean_loss,
                "images_per_second": done.steps * plan.batch_size / done.seconds if done.seconds else 0.0,
            }
        )
    return found


def read_metrics(out: Path) -> list[Row]:
    """The rows of a run's `metrics.csv` so far; none where there is no such file yet."""
    try:
        with (out / METRICS).open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


class Channels:
    """The channels of one run. A run that goes on continues them.

    Args:
        out: the run's folder.
        plan: what it executes.
        peak: its peak learning rate.
        loggers: MLflow, W&B.

    Raises:
        InvalidInput: when a tracker's package is missing or it cannot be reached.
    """

    def __init__(self, out: Path, plan: Plan, peak: float, loggers: Sequence[LoggerName]) -> None:
        self._out, self._peak = out, peak
        told = read_metrics(out)
        for cut_short in out.glob("events.out.tfevents.*"):  # its last events may be lost: all are drawn again
            cut_short.unlink()
        self._board = SummaryWriter(str(out))
        for row in told:
            self._draw(row, int(row["step"]))
        self._told = len(told)
        settings = {"budget": str(plan.budget), "steps": plan.steps, "batch_size": plan.batch_size, "learning_rate": peak}
        self._trackers = {name: _opened(name, out, settings) for name in loggers}

    def tell(self, progress: Progress) -> None:
        """Tell what is new since the last call."""
        found = rows(progress, self._peak)
        unfinished = self._out / f"{METRICS}.tmp"
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        unfinished.replace(self._out / METRICS)
        for row in found[self._told :]:
            self._draw(row, int(row["step"]))
            self._track(row, int(row["step"]))
        self._told = len(found)

    def close(self, accuracies: Row, step: int) -> None:
        """Tell the finished run's accuracies, and end."""
        self._draw(accuracies, step)
        self._track(accuracies, step)
        self._board.close()
        for name, tracker in self._trackers.items():
            tracker.finish() if name == "wandb" else tracker.end_run()

    def _draw(self, row: Row, step: int) -> None:
        for name, value in row.items():
            self._board.add_scalar(name, value, step)

    def _track(self, row: Row, step: int) -> None:
        for name, tracker in self._trackers.items():
            tracker.log(row, step=step) if name == "wandb" else tracker.log_metrics(row, step=step)


def _opened(name: LoggerName, out: Path, settings: dict[str, Any]) -> Any:
    """MLflow's module with its run begun, or W&B's run."""
    module = importlib.import_module(name)
    try:
        if name == "wandb":
            return module.init(project="vit-budget-explorer", id=out.name, config=settings, dir=str(out), resume="allow")
        known = out / RUN_ID
        run = module.start_run(run_id=known.read_text()) if known.exists() else module.start_run(run_name=out.name)
        known.write_text(run.info.run_id)
        module.log_params(settings)
        return module
    except Exception as error:
        raise InvalidInput("track", name, f"cannot be used: {error}") from None
