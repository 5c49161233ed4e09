"""Runs in Weights & Biases, online or offline. A run has a fixed id, by which a resumed run is continued."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.loggers.services import Ending, Point, RunDescription

EXIT_CODES = {"finished": 0, "failed": 1, "killed": 130}
"""W&B shows a run whose exit code is not 0 as failed, or as preempted where it was marked so."""
X_AXIS = "cost"
"""Metric that is the x axis of W&B's charts."""


class WandbService:
    """Runs of one project.

    Args:
        project: name of the project, unless WANDB_PROJECT is set.
        folder: folder for W&B's files, unless WANDB_DIR is set; `None` for W&B's default.

    Raises:
        RuntimeError: when W&B is online and has no API key.
    """

    def __init__(self, project: str, folder: Path | None) -> None:
        self._wandb: Any = importlib.import_module("wandb")
        # Neither the driver's output nor its machine's load says anything about a run.
        self._settings = self._wandb.Settings(console="off", silent=True, quiet=True, x_disable_stats=True, disable_git=True)
        mode = os.environ.get("WANDB_MODE") or str(self._wandb.setup().settings.mode)
        if mode == "online" and not self._wandb.login(prompt=False):
            raise RuntimeError("there is no API key: run `wandb login`, or set WANDB_API_KEY or WANDB_MODE=offline")
        self._project = os.environ.get("WANDB_PROJECT", project)
        self._folder = None if folder is None or "WANDB_DIR" in os.environ else folder
        self.destination = f"{mode} {self._wandb.setup().settings.base_url} {self._project}"
        self._runs: dict[str, Any] = {}

    def start(self, run: RunDescription) -> int:
        """Begin a run, or continue the one with the same id."""
        if run.key in self._runs:
            return int(self._runs[run.key].step)
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
        started = self._wandb.init(
            project=self._project,
            id=run.key,
            name=run.name,
            config={**run.tags, **run.parameters},
            dir=str(self._folder) if self._folder else None,
            resume="allow",
            reinit="create_new",  # several runs at the same time
            allow_val_change=True,
            settings=self._settings,
        )
        self._runs[run.key] = started
        started.define_metric("*", step_metric=X_AXIS)
        return int(started.step) - 1  # the next step of a run that is continued, otherwise 0

    def log(self, run: RunDescription, points: Sequence[Point]) -> None:
        """Add points to a run."""
        for point in points:
            self._runs[run.key].log(dict(point.metrics), step=point.step)

    def end(self, run: RunDescription, ending: Ending) -> None:
        """End a run with an exit code; the reason of a failure is in its summary."""
        ended = self._runs[run.key]
        ended.summary["status"] = ending.status
        ended.summary["reason"] = ending.reason or ""
        if ending.status == "killed":
            ended.mark_preempting()
        ended.finish(exit_code=EXIT_CODES[ending.status])
        del self._runs[run.key]
