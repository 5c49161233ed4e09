"""Experiment loggers, by Tune's callbacks. TensorBoard needs none: Tune always writes its event files."""

from __future__ import annotations

from collections.abc import Sequence

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback

from explorer.errors import InvalidInput
from explorer.spec.loggers import LoggerName


def callbacks(loggers: Sequence[LoggerName], sweep: str) -> list[Callback]:
    """Tune's callbacks for a space's `loggers`; each reads its own settings (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...).

    Args:
        loggers: names.
        sweep: name of the experiment or project.

    Raises:
        InvalidInput: when a tracker cannot be reached or is not set up.
    """
    made: dict[LoggerName, type[Callback]] = {"mlflow": MLflowLoggerCallback, "wandb": WandbLoggerCallback}
    names = {"mlflow": "experiment_name", "wandb": "project"}
    found = []
    for tracker in loggers:
        callback = made[tracker](**{names[tracker]: sweep})
        try:
            callback.setup()  # Tune does it again; here, its failure can be told in a line
        except Exception as error:
            raise InvalidInput("loggers", tracker, f"cannot be used: {error}") from None
        found.append(callback)
    return found
