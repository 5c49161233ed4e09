"""What only Tune's own classes can know or do: the error of a trial that left no record, and stopping all trials at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

LOGS_OF_FAILED_TRIALS = {
    "ray.tune.tune": logging.CRITICAL,
    "ray.tune.analysis.experiment_analysis": logging.CRITICAL,
    "ray.tune.experiment.trial": logging.WARNING,
}
"""Names of the logs in which Tune lists failed trials and those that start again, which a sweep tells in lines of its own; and
the level from which they are shown."""


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keep Tune from writing the traceback of every failed trial to the terminal. Records have their reasons."""
    logs = {logging.getLogger(name): level for name, level in LOGS_OF_FAILED_TRIALS.items()}
    levels = [log.level for log in logs]
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    for log, level in logs.items():
        log.setLevel(level)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


class ErrorNotes(FIFOScheduler):
    """Starts trials in the order of their proposals, and notes their errors.

    Tune tells a searcher that a trial ended in an error, but not in which one. It tells the scheduler first, which sees the
    file to which the error was written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._errors: dict[str, str] = {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Note the error of a trial."""
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace") if trial.error_file else ""
        self._errors[trial.trial_id] = text.partition("\n")[2]  # without Tune's line: the number of the failure, and its time

    def take(self, trial_id: str) -> str:
        """The text of the error in which a trial of Tune's ended; empty if there is none."""
        return self._errors.pop(trial_id, "")


class StopTogether(tune.Stopper):
    """Stops all trials when there is a reason to. What they have trained stays in the stage store.

    Args:
        reason: says why; `None` while there is no reason.
    """

    def __init__(self, reason: Callable[[], object]) -> None:
        self._reason = reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to stop."""
        return self._reason() is not None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles the stopper for its own restore, which is not used."""
        return {}
