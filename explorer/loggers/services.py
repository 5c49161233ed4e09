"""What an experiment logger is: a service that shows runs, each with parameters, metrics by step, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from explorer.errors import InvalidInput
from explorer.spec.loggers import LoggerName

Metrics = Mapping[str, float]
"""Metrics by name."""
OPENING_SECONDS = 60.0
"""Time in which a service must answer when it is opened. Clients try for many minutes."""


@dataclass(frozen=True)
class Point:
    """Metrics at a step."""

    step: int
    """Number of optimizer steps."""
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """A run as a service shows it."""

    key: str
    """Identifies the run within its experiment. It is the same after a restart, so that the run is continued."""
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Settings: numbers and strings."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    status: Literal["finished", "failed", "killed"]
    reason: str | None = None
    """Why it failed or was killed, in one line."""
    results: Point | None = None
    """Results of a finished run, at its last step. They are logged even if that step has been logged before."""


@dataclass(frozen=True)
class LoggingTask:
    """What a service is asked for about one run: to log points, and to end it."""

    run: RunDescription
    points: Sequence[Point] = ()
    ending: Ending | None = None


class LoggingService(Protocol):
    """A service that shows runs. All methods are called from one thread; they may block, and may raise any exception."""

    destination: str
    """Where the runs are kept."""

    def start(self, run: RunDescription) -> int:
        """Begin a run, or continue the run with the same key.

        Returns:
            The last step that the service already has of this run; -1 if there is none.
        """
        ...

    def log(self, run: RunDescription, points: Sequence[Point]) -> None:
        """Add points to a run that was started."""
        ...

    def end(self, run: RunDescription, ending: Ending) -> None:
        """End a run that was started."""
        ...


def open_service(name: LoggerName, experiment: str, folder: Path | None, field: str) -> LoggingService:
    """Connect to a service. It reads its own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE, ...).

    Args:
        name: name of the service.
        experiment: MLflow's experiment or W&B's project, unless the environment names another one.
        folder: folder for files that the service keeps on this machine; `None` for its own default.
        field: name of the setting that asks for the service, for the error.

    Raises:
        InvalidInput: when the service is not set up, or does not answer in time.
    """
    opened: list[LoggingService] = []
    errors: list[Exception] = []

    def connect() -> None:
        try:
            if name == "mlflow":
                from explorer.loggers.mlflow_service import MlflowService

                opened.append(MlflowService(experiment))
            else:
                from explorer.loggers.wandb_service import WandbService

                opened.append(WandbService(experiment, folder))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(OPENING_SECONDS)
    if not opened:
        reason = str(errors[0]) if errors else f"no answer within {OPENING_SECONDS:g} s"
        raise InvalidInput(field, name, f"cannot be used: {reason}")
    return opened[0]
