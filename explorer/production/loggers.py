"""The metrics of a production run: always a CSV file and TensorBoard's event files; MLflow or W&B if requested.

MLflow and W&B read their own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...).
"""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from explorer.errors import InvalidInput
from explorer.files import write_file
from explorer.plan import Plan
from explorer.spec.loggers import LoggerName
from explorer.training.progress import Progress

METRICS = "metrics.csv"
MLFLOW_RUN_ID = "mlflow-run"
"""File with the id of the run in MLflow, so that a resumed run continues it."""
Row = dict[str, float]
"""Metrics by name."""


def metrics_of(progress: Progress, peak_learning_rate: float) -> list[Row]:
    """The metrics of a run, one row per finished segment.

    Args:
        progress: the run's progress.
        peak_learning_rate: the learning rate that the plan's factors apply to.
    """
    rows, steps, flops = [], 0, 0
    plan = progress.plan
    for segment, result in zip(plan.segments, progress.segments, strict=False):
        steps, flops = steps + result.steps, flops + result.flops
        rows.append(
            {
                "step": steps,
                "epoch": plan.epochs(steps),
                "budget_time": segment.end_time,
                "cost": flops / plan.full_flops,
                "stage": segment.stage + 1,
                **segment.rates.model_dump(),
                "learning_rate": peak_learning_rate * segment.learning_rate_factor(segment.steps - 1),
                "loss": result.mean_loss,
                "images_per_second": result.steps * plan.batch_size / result.seconds if result.seconds else 0.0,
            }
        )
    return rows


def read_metrics(out: Path) -> list[Row]:
    """The rows of a run's `metrics.csv` so far; an empty list if there is no such file yet."""
    try:
        with (out / METRICS).open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


class RunLoggers:
    """The loggers of one run. A resumed run continues them.

    Args:
        out: the run's folder.
        plan: the plan that the run executes.
        peak_learning_rate: the learning rate that the plan's factors apply to.
        loggers: names of further loggers: `mlflow`, `wandb`.

    Raises:
        InvalidInput: when a logger's package is missing, or its server cannot be reached.
    """

    def __init__(self, out: Path, plan: Plan, peak_learning_rate: float, loggers: Sequence[LoggerName]) -> None:
        self._out, self._peak_learning_rate = out, peak_learning_rate
        logged = read_metrics(out)
        for interrupted in out.glob("events.out.tfevents.*"):  # may lack its last events: all are written again
            interrupted.unlink()
        self._tensorboard = SummaryWriter(str(out))
        for row in logged:
            self._to_tensorboard(row, int(row["step"]))
        self._rows_logged = len(logged)
        settings = {
            "budget": str(plan.budget),
            "steps": plan.steps,
            "batch_size": plan.batch_size,
            "learning_rate": peak_learning_rate,
        }
        self._loggers = {name: _start(name, out, settings) for name in loggers}

    def log(self, progress: Progress) -> None:
        """Log the segments that finished since the last call."""
        rows = metrics_of(progress, self._peak_learning_rate)
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_file(self._out / METRICS, table.getvalue())
        for row in rows[self._rows_logged :]:
            self._to_tensorboard(row, int(row["step"]))
            self._to_loggers(row, int(row["step"]))
        self._rows_logged = len(rows)

    def close(self, accuracies: Row, step: int) -> None:
        """Log the accuracies of the finished run, and close all loggers."""
        self._to_tensorboard(accuracies, step)
        self._to_loggers(accuracies, step)
        self._tensorboard.close()
        for name, logger in self._loggers.items():
            logger.finish() if name == "wandb" else logger.end_run()

    def _to_tensorboard(self, row: Row, step: int) -> None:
        for name, value in row.items():
            self._tensorboard.add_scalar(name, value, step)

    def _to_loggers(self, row: Row, step: int) -> None:
        for name, logger in self._loggers.items():
            logger.log(row, step=step) if name == "wandb" else logger.log_metrics(row, step=step)


def _start(name: LoggerName, out: Path, settings: dict[str, Any]) -> Any:
    """MLflow's module with the run started, or W&B's run."""
    module = importlib.import_module(name)
    try:
        if name == "wandb":
            return module.init(project="vit-budget-explorer", id=out.name, config=settings, dir=str(out), resume="allow")
        run_id = out / MLFLOW_RUN_ID
        run = module.start_run(run_id=run_id.read_text()) if run_id.exists() else module.start_run(run_name=out.name)
        write_file(run_id, run.info.run_id)
        module.log_params(settings)
        return module
    except Exception as error:
        raise InvalidInput("logger", name, f"cannot be used: {error}") from None
