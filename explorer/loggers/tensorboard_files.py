"""Runs as TensorBoard's event files: a folder with one file per run, which a restart replaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from explorer.loggers.services import Ending, Metrics, Point, RunDescription

COST = "cost"
"""Metric that is the x axis of the scalars under `by_cost/`."""
COST_STEPS = 10_000
"""TensorBoard's x axis is a whole number: under `by_cost/` it is hundredths of a percent of full training."""


class TensorBoardFiles:
    """Event files of runs, each in the subfolder of its name.

    Each metric is written twice: as `NAME`, by steps, and as `by_cost/NAME`, by cost.

    Args:
        folder: the log directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.destination = "files"
        self._writers: dict[str, SummaryWriter] = {}
        self._last: dict[str, Metrics] = {}

    def start(self, run: RunDescription) -> int:
        """Begin a run's file. What an earlier try has written is removed: all its points are written again."""
        if unfinished := self._writers.pop(run.key, None):
            unfinished.close()
        folder = self._folder / run.name
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        self._writers[run.key] = SummaryWriter(str(folder))
        return -1

    def log(self, run: RunDescription, points: Sequence[Point]) -> None:
        """Add points to a run."""
        writer = self._writers[run.key]
        for point in points:
            for name, value in point.metrics.items():
                writer.add_scalar(name, value, point.step)
                if name != COST:
                    writer.add_scalar(f"by_cost/{name}", value, round(COST_STEPS * point.metrics[COST]))
            self._last[run.key] = {**self._last.get(run.key, {}), **point.metrics}
        writer.flush()

    def end(self, run: RunDescription, ending: Ending) -> None:
        """End a run's file with its parameters, for the HParams tab, and how it ended."""
        writer = self._writers.pop(run.key)
        settings = {**run.parameters, "status": ending.status}
        for summary in hparams(settings, dict(self._last.pop(run.key, {}))):
            writer.file_writer.add_summary(summary)
        if ending.reason:
            writer.add_text("reason", ending.reason)
        writer.close()
