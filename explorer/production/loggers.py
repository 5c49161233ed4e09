"""The metrics of a production run: always a CSV file and TensorBoard's event files; MLflow or W&B if requested.

MLflow and W&B read their own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...). They are called from threads of their own, so
that training never waits for them.
"""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from tensorboardX import SummaryWriter

from explorer.files import write_file
from explorer.loggers import BackgroundLogger, Ending, LoggingService, Metrics, Point, RunDescription, open_service
from explorer.plan import Plan
from explorer.spec.loggers import LoggerName
from explorer.training.progress import Progress

METRICS = "metrics.csv"
RUN_KEY = "run-key"
"""File with the run's key in MLflow and W&B, so that a resumed run continues it."""
EXPERIMENT = "vit-budget-explorer"
"""Name of MLflow's experiment and W&B's project, unless the environment names another one."""
DRAIN_SECONDS = 60.0
"""Time that MLflow and W&B have at the end of a run to log what is left."""
Row = dict[str, float]
"""Metrics by name."""


def metrics_of(progress: Progress, peak_learning_rate: float) -> list[Row]:
    """The metrics of a run, one row per finished segment.

    Args:
        progress: the run's progress.
        peak_learning_rate: the learning rate that the plan's factors apply to.
    """
    rows, steps = [], 0
    plan = progress.plan
    for segment, result in zip(plan.segments, progress.segments, strict=False):
        steps += result.steps
        images = result.steps * segment.images_per_step(plan.batch_size)
        rows.append(
            {
                "step": steps,
                "epoch": plan.epochs(steps),
                "budget_time": segment.end_time,
                "cost": plan.cost_after(steps),
                "stage": segment.stage + 1,
                **segment.rates.model_dump(),
                "learning_rate": peak_learning_rate * segment.learning_rate_factor(segment.steps - 1),
                "loss": result.mean_loss,
                "images_per_second": images / result.seconds if result.seconds else 0.0,
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
    """The loggers of one run. A resumed run continues them. Leave the `with` block to close them.

    Args:
        out: the run's folder.
        plan: the plan that the run executes.
        peak_learning_rate: the learning rate that the plan's factors apply to.
        loggers: names of further loggers: `mlflow`, `wandb`.
        resumed: whether the run resumes an interrupted one. Then a logger that cannot be reached is a warning.
        say: prints a line.

    Raises:
        InvalidInput: when a new run's logger is not set up or does not answer.
    """

    def __init__(
        self,
        out: Path,
        plan: Plan,
        peak_learning_rate: float,
        loggers: Sequence[LoggerName],
        resumed: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        self._out, self._peak_learning_rate, self._say = out, peak_learning_rate, say
        logged = read_metrics(out)
        for interrupted in out.glob("events.out.tfevents.*"):  # may lack its last events: all are written again
            interrupted.unlink()
        self._tensorboard = SummaryWriter(str(out))
        for row in logged:
            self._to_tensorboard(row, int(row["step"]))
        self._points = [Point(int(row["step"]), row) for row in logged]
        parameters = {
            "budget": str(plan.budget),
            "steps": plan.steps,
            "batch_size": plan.batch_size,
            "learning_rate": peak_learning_rate,
        }
        self._run = RunDescription(key=_run_key(out), name=out.name, parameters=parameters, tags={"folder": str(out.resolve())})
        self._ending: Ending | None = None
        self._loggers = [self._logger(name, resumed) for name in loggers]

    def log(self, progress: Progress) -> None:
        """Log the segments that finished since the last call."""
        rows = metrics_of(progress, self._peak_learning_rate)
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_file(self._out / METRICS, table.getvalue())
        new = [Point(int(row["step"]), row) for row in rows[len(self._points) :]]
        for point in new:
            self._to_tensorboard(point.metrics, point.step)
        self._points += new
        for logger in self._loggers:
            logger.log(self._run, new)

    def finish(self, results: Row, step: int) -> None:
        """Log the metrics of the finished run."""
        self._to_tensorboard(results, step)
        cost = {"cost": self._points[-1].metrics["cost"]} if self._points else {}
        self._ending = Ending("finished", results=Point(step, {**cost, **results}))

    def __enter__(self) -> Self:
        for logger in self._loggers:
            logger.start()
            logger.log(self._run, self._points)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """Close all loggers, and show a run that did not finish as failed or killed."""
        self._tensorboard.close()
        if isinstance(error, Exception):
            ending = Ending("failed", " ".join(f"{type(error).__name__}: {error}".split()))
        else:
            ending = self._ending or Ending("killed", "the run was interrupted; the same command resumes it")
        for logger in self._loggers:
            logger.end(self._run, self._points, ending)
        for logger in self._loggers:
            for line in logger.close(DRAIN_SECONDS):
                self._say(line)

    def _logger(self, name: LoggerName, resumed: bool) -> BackgroundLogger:
        connect: Callable[[], LoggingService] = partial(open_service, name, EXPERIMENT, self._out, "logger")
        if not resumed:
            service = connect()

            def connect() -> LoggingService:
                return service

        return BackgroundLogger(name, connect, self._say)

    def _to_tensorboard(self, row: Metrics, step: int) -> None:
        for name, value in row.items():
            self._tensorboard.add_scalar(name, value, step)


def _run_key(out: Path) -> str:
    """The run's key: drawn when the run begins, and kept in its folder."""
    path = out / RUN_KEY
    if not path.exists():
        write_file(path, uuid.uuid4().hex[:16])
    return path.read_text(encoding="utf-8").strip()
