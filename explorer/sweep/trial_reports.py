"""What a running trial tells the driver through Tune, and what the driver does with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from ray import tune

from explorer.ledger import Record, Trial
from explorer.loggers import Point
from explorer.sweep.learning_curve import curve_point
from explorer.sweep.searcher import TRIAL
from explorer.sweep.trial import worker_name
from explorer.training.progress import Progress

REPORT_SECONDS = 1.0
"""Shortest time between two reports of a trial."""
SEGMENTS, PLANNED_SEGMENTS, POINTS, WORKER = "segments", "planned_segments", "points", "worker"
"""Keys of a report: finished segments, all segments, points since the last report, host and process."""


class TrialReports:
    """Reports a trial's progress to the driver, on its start, then at most every `REPORT_SECONDS`, not after the last segment.

    `tune.report` waits for the driver; the training loop does not count that time as training.

    Args:
        relative_cost: gives the cost of full training of the trial's task in full trainings of the sweep's task. It is asked
            when a segment is finished, because it needs the data.
    """

    def __init__(self, relative_cost: Callable[[], float] = lambda: 1.0) -> None:
        self._relative_cost = cache(relative_cost)
        self._last = time.monotonic()
        self._reported = 0
        tune.report({SEGMENTS: 0, WORKER: worker_name()})

    def __call__(self, progress: Progress) -> None:
        """Called after each segment."""
        now, done = time.monotonic(), len(progress.segments)
        if now - self._last < REPORT_SECONDS or done == len(progress.plan.segments):
            return
        self._last = now
        points = _points(progress, self._relative_cost())[self._reported :]
        self._reported = done
        planned = len(progress.plan.segments)
        tune.report({SEGMENTS: done, PLANNED_SEGMENTS: planned, POINTS: points, WORKER: worker_name()})


def _points(progress: Progress, relative_cost: float) -> list[Point]:
    """The points of the finished segments, those from a stage store included."""
    points, steps = [], 0
    for result in progress.segments:
        steps += result.steps
        points.append(curve_point(steps, relative_cost * progress.plan.cost_after(steps), result.mean_loss))
    return points


class Observer(Protocol):
    """Is told on the driver how trials proceed. Must return at once: Tune waits for it."""

    def started(self, trial: Trial) -> None:
        """A trial has begun to run."""
        ...

    def reported(self, trial: Trial, report: dict[str, Any]) -> None:
        """A running trial has sent a report of `TrialReports`."""
        ...

    def finished(self, record: Record) -> None:
        """A trial ended."""
        ...


class TrialObservers(tune.Callback):
    """Tune's callback that passes on to observers what trials report. It replaces all loggers of Tune's own.

    Args:
        observers: are told of the start, the reports and the end of each trial.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # CSV, JSON and event files that nothing reads

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """A trial has its worker."""
        for observer in self._observers:
            observer.started(trial.config[TRIAL])

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial has reported."""
        if SEGMENTS in result:
            for observer in self._observers:
                observer.reported(trial.config[TRIAL], result)

    def finished(self, record: Record) -> None:
        """A trial ended; called by the driver, since some trials end without Tune."""
        for observer in self._observers:
            observer.finished(record)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for its own restore, which is not used."""
        return {}
