"""Experiment loggers, by Tune's callbacks. TensorBoard needs none: Tune always writes its event files."""

from __future__ import annotations

from collections.abc import Sequence

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback

from explorer.errors import InvalidInput
from explorer.spec.loggers import LoggerName

CALLBACKS: dict[LoggerName, type[Callback]] = {"mlflow": MLflowLoggerCallback, "wandb": WandbLoggerCallback}
EXPERIMENT_ARGUMENT: dict[LoggerName, str] = {"mlflow": "experiment_name", "wandb": "project"}
"""Argument of each callback that names the sweep."""


def logger_callbacks(loggers: Sequence[LoggerName], sweep: str) -> list[Callback]:
    """Tune's callbacks for a space's `loggers`. Each reads its own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...).

    Args:
        loggers: names of loggers.
        sweep: name of the experiment or project.

    Raises:
        InvalidInput: when a logger cannot be reached or is not set up.
    """
    callbacks = []
    for name in loggers:
        callback = CALLBACKS[name](**{EXPERIMENT_ARGUMENT[name]: sweep})
        try:
            callback.setup()  # Tune calls it again; here, a failure can be reported in one line
        except Exception as error:
            raise InvalidInput("loggers", name, f"cannot be used: {error}") from None
        callbacks.append(callback)
    return callbacks
