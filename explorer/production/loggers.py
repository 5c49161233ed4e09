"""The metrics of a production run: always a CSV file and TensorBoard's event files; MLflow or W&B if requested.

MLflow and W&B read their own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...). They are called from threads of their own, so
that training never waits for them.
"""

from __future__ import annotations

import csv
import io
import math
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from explorer.files import write_file
from explorer.loggers import BackgroundLogger, Ending, LoggingService, Point, RunDescription, open_service
from explorer.plan import Plan
from explorer.production.event_file import EventFile
from explorer.segment import Segment
from explorer.spec.loggers import LoggerName
from explorer.spec.metric import MetricSpec
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


def metrics_of(progress: Progress, peak_learning_rate: float, metrics: Sequence[MetricSpec] = ()) -> list[Row]:
    """The metrics of a run, in the order of its steps: one row per finished segment, and one per evaluation within a segment.

    A row has the stage and the rates of the model that was trained, and evaluated, there.

    Args:
        progress: the run's progress.
        peak_learning_rate: the learning rate that the plan's factors apply to.
        metrics: what evaluations measure.
    """
    rows: dict[int, Row] = {}
    steps, plan = 0, progress.plan
    for segment, result in zip(plan.segments, progress.segments, strict=False):
        steps += result.steps
        images = result.steps * segment.images_per_step(plan.batch_size)
        rows[steps] = _row_of_step(plan, segment, segment.steps, steps, peak_learning_rate) | {
            "loss": result.mean_loss,
            "images_per_second": images / result.seconds if result.seconds else 0.0,
        }
    for evaluation in progress.evaluations:
        steps = evaluation.steps
        segment, number = plan.position(steps - 1)
        row = rows.setdefault(steps, _row_of_step(plan, segment, number + 1, steps, peak_learning_rate))
        values = zip(metrics, evaluation.values, strict=True)
        row |= {f"validation_{metric.slug}": value for metric, value in values if not math.isnan(value)}
    return [rows[steps] for steps in sorted(rows)]


def _row_of_step(plan: Plan, segment: Segment, done: int, steps: int, peak_learning_rate: float) -> Row:
    """Where in a plan a step is, after `done` steps of its segment and `steps` of the plan."""
    return {
        "step": steps,
        "epoch": plan.epochs(steps),
        "budget_time": segment.end_time - (segment.end_time - segment.start_time) * (1 - done / segment.steps),
        "cost": plan.cost_after(steps),
        "stage": segment.stage + 1,
        **segment.rates.model_dump(),
        "learning_rate": peak_learning_rate * segment.learning_rate_factor(done - 1),
    }


def read_metrics(out: Path) -> list[Row]:
    """The rows of a run's `metrics.csv` so far, with what was measured at each; an empty list if there is no such file yet.

    Raises:
        ValueError: when the file is not as this package writes it: a spreadsheet may have saved it with other separators.
    """
    try:
        with (out / METRICS).open(newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (TypeError, csv.Error) as error:  # a row that is longer than the header
        raise ValueError(f"{out / METRICS}: {error}") from None
    if any("step" not in row for row in rows):
        raise ValueError(f"{out / METRICS} has no column step")
    return rows


class RunLoggers:
    """The loggers of one run. A resumed run continues them. Leave the `with` block to close them.

    Args:
        out: the run's folder.
        plan: the plan that the run executes.
        peak_learning_rate: the learning rate that the plan's factors apply to.
        loggers: names of further loggers: `mlflow`, `wandb`.
        metrics: what evaluations during training measure.
        resumed_at: number of steps after which the run resumes an interrupted one; `None` for a new run. In a resumed run, a
            logger that cannot be reached is a warning.
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
        metrics: Sequence[MetricSpec] = (),
        resumed_at: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._out, self._peak_learning_rate, self._metrics, self._say = out, peak_learning_rate, metrics, say
        self._failing: set[str] = set()
        """Files that could not be written the last time."""
        try:
            earlier = read_metrics(out)
        except ValueError as error:
            say(f"{error}; it is written again")
            earlier = []
        logged = [row for row in earlier if row["step"] <= (resumed_at or 0)]  # what follows is trained again
        self._tensorboard = EventFile(out)
        self._points = [Point(int(row["step"]), row) for row in logged]
        self._to_tensorboard(self._points)
        parameters = {
            "budget": str(plan.budget),
            "steps": plan.steps,
            "batch_size": plan.batch_size,
            "learning_rate": peak_learning_rate,
        }
        self._run = RunDescription(key=run_key(out), name=out.name, parameters=parameters, tags={"folder": str(out.resolve())})
        self._ending: Ending | None = None
        self._loggers = [self._logger(name, resumed_at is not None) for name in loggers]

    def log(self, progress: Progress) -> None:
        """Log the segments that finished, and the evaluations that were made, since the last call.

        A file that cannot be written is a warning; the next call writes all that it lacks.
        """
        rows = metrics_of(progress, self._peak_learning_rate, self._metrics)
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
        self._write(METRICS, lambda: write_file(self._out / METRICS, table.getvalue()))
        logged = {point.step for point in self._points}
        new = [Point(int(row["step"]), row) for row in rows if row["step"] not in logged]
        self._to_tensorboard(new)
        self._points += new
        for logger in self._loggers:
            logger.log(self._run, new)

    def finish(self, results: Row, step: int) -> None:
        """Log the metrics of the finished run."""
        self._to_tensorboard([Point(step, results)])
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

    def _to_tensorboard(self, points: Sequence[Point]) -> None:
        self._write("TensorBoard's file", lambda: self._tensorboard.write(points))

    def _write(self, name: str, write: Callable[[], object]) -> None:
        """Write a file, or say once that this fails."""
        try:
            write()
        except OSError as error:
            if name not in self._failing:
                self._say(f"{name} cannot be written: {error.strerror or error}; training continues, and tries again")
            self._failing.add(name)
        else:
            self._failing.discard(name)


def run_key(out: Path) -> str:
    """The run's key, which is kept in its folder.

    Raises:
        OSError: when it cannot be read or written.
    """
    path = out / RUN_KEY
    return path.read_text(encoding="utf-8").strip() if path.exists() else new_run_key(out)


def new_run_key(out: Path) -> str:
    """Draw the key of a run that begins.

    Raises:
        OSError: when it cannot be written.
    """
    key = uuid.uuid4().hex[:16]
    write_file(out / RUN_KEY, key)
    return key
