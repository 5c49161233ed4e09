"""Runs in MLflow. A run is found again by a tag, so that a resumed run has no twin that stays RUNNING."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from explorer.loggers.services import Ending, Point, RunDescription

KEY_TAG, REASON_TAG = "explorer.run", "explorer.reason"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
MAX_BATCH = 1000
"""Largest number of metrics in one request of MLflow's REST API."""
STEP_METRIC = "cost"
"""Metric that every point has, from which the last logged step is read."""


class MlflowService:
    """Runs of one experiment, by MLflow's client: MLflow's `start_run` knows a single run per thread.

    Args:
        experiment: name of the experiment, unless MLFLOW_EXPERIMENT_NAME is set.
    """

    def __init__(self, experiment: str) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports on its database tables
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", experiment)
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.destination = f"{mlflow.get_tracking_uri()} {name}"
        self._ids: dict[str, str] = {}

    def start(self, run: RunDescription) -> int:
        """Begin a run, or continue the one with the same tag."""
        found = self._client.search_runs([self._experiment], f"tags.`{KEY_TAG}` = '{run.key}'", max_results=1)
        if found:
            self._ids[run.key] = run_id = found[0].info.run_id
            self._client.update_run(run_id, status="RUNNING")
            return max((metric.step for metric in self._client.get_metric_history(run_id, STEP_METRIC)), default=-1)
        tags = {KEY_TAG: run.key, **run.tags}
        created = self._client.create_run(self._experiment, run_name=run.name, tags=tags)
        self._ids[run.key] = created.info.run_id
        parameters = [self._entities.Param(name, str(value)) for name, value in run.parameters.items()]
        self._client.log_batch(created.info.run_id, params=parameters)
        return -1

    def log(self, run: RunDescription, points: Sequence[Point]) -> None:
        """Add points to a run."""
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(name, float(value), now, point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for first in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(self._ids[run.key], metrics=metrics[first : first + MAX_BATCH])

    def end(self, run: RunDescription, ending: Ending) -> None:
        """End a run with MLflow's status; the reason of a failure is a tag."""
        run_id = self._ids[run.key]
        if ending.reason:
            self._client.set_tag(run_id, REASON_TAG, ending.reason)
        elif REASON_TAG in self._client.get_run(run_id).data.tags:  # of an earlier try
            self._client.delete_tag(run_id, REASON_TAG)
        self._client.set_terminated(run_id, STATUS[ending.status])
        del self._ids[run.key]
