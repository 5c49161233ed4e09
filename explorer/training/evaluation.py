"""The metrics of a task on data that training does not see."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explorer.data import Batch, Split
from explorer.spec.metric import MetricSpec
from explorer.training.checkpoint import random_state, restore_random_state
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.errors import TrainingError
from explorer.training.metrics import CountedAccuracy, Measure, RunningMetric, not_a_value
from explorer.training.task import MixedPrecision, Task, autocast

# Shapes: B batch, C channels, H height, W width, K classes


class Measured(NamedTuple):
    """What was measured on a split."""

    values: tuple[float, ...]
    """The metric, and the second one if there is one; NaN for one that failed."""
    failures: tuple[str | None, ...]
    """The error that each metric raised; `None` if it raised none."""
    correct: NDArray[np.bool_] | None
    """Whether each image was classified correctly, (N,) in the order of the split; `None` where the metric is not accuracy."""


class NotMeasuredError(TrainingError):
    """A metric of a trained model is no number, or it fails; the message says which, and where."""


class _RunningMetric:
    """A metric that is measured until it raises an error, which is kept: code of the user's may fail in any way."""

    def __init__(self, running: RunningMetric) -> None:
        self.running = running
        self.error: str | None = None

    def update(self, outputs_BK: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        if self.error is None:
            with self._noted():
                self.running.update(outputs_BK, targets)

    def compute(self, processes: Processes) -> float:
        """The value; NaN if the metric failed in any process. Every process has to call this, and all have the same error."""
        value = math.nan
        self._agree(processes)  # before the processes exchange what they have measured
        if self.error is None:
            with self._noted():
                value = self.running.compute(processes)
            self._agree(processes)
        return value if self.error is None else math.nan

    def _agree(self, processes: Processes) -> None:
        self.error = next(filter(None, processes.all_gather(self.error)), None)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keep the error that is raised within the context, unless the device has no memory left."""
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self.error = f"{type(error).__name__}: {' '.join(str(error).split())}"


def evaluated(
    model: nn.Module, task: Task, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> Measured:
    """The metric of a task's objective on a split. The processes divide the images.

    Raises:
        NotMeasuredError: when a metric fails, or is NaN, infinite, or outside of its bounds.
    """
    batches = task.data.evaluation_batches(split, device, processes.rank, processes.count)
    measures = task.objective.measures
    result = measured(model, batches, measures, device, task.precision(device), processes)
    check_measured(measures, result, split)
    return result


def evaluated_in_training(
    model: nn.Module, task: Task, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> tuple[float, ...]:
    """The metrics of a model that is being trained, on the validation images, without any effect on its training.

    Returns:
        The metric, and the second one if there is one; NaN for one that fails or is no number, which only that of the finished
        model must be. A warning says why one failed.
    """
    modes = [(module, module.training) for module in model.modules()]
    random = random_state()  # torch's data loaders draw from it
    try:
        batches = task.data.evaluation_batches("validation", device, processes.rank, processes.count)
        measures = task.objective.measures
        result = measured(model, batches, measures, device, task.precision(device), processes)
        for measure, failure in zip(measures, result.failures, strict=True):
            if failure and processes.is_main:
                warnings.warn(f"{_failure_text(measure.metric, failure, 'validation')}; training continues", stacklevel=2)
        pairs = zip(measures, result.values, strict=True)
        return tuple(math.nan if not_a_value(measure.metric, value) else value for measure, value in pairs)
    finally:
        restore_random_state(random)
        for module, mode in modes:
            module.training = mode


def check_measured(measures: Sequence[Measure], result: Measured, split: str) -> None:
    """Check that metrics have values.

    Args:
        measures: the metrics.
        result: what was measured.
        split: whose images it was measured on, for the message.

    Raises:
        NotMeasuredError: when one of them failed, or is NaN, infinite, or outside of its bounds.
    """
    for measure, value, failure in zip(measures, result.values, result.failures, strict=True):
        if failure:
            raise NotMeasuredError(_failure_text(measure.metric, failure, split))
        check_value(measure.metric, value, split)


def _failure_text(metric: MetricSpec, failure: str, split: str) -> str:
    return f"{metric.label} fails on the {split} images: {failure}"


def check_value(metric: MetricSpec, value: float, split: str) -> None:
    """Check that a number can be a value of a metric.

    Raises:
        NotMeasuredError: when it cannot.
    """
    if reason := not_a_value(metric, value):
        raise NotMeasuredError(f"{reason} on the {split} images")


@torch.no_grad()
def measured(
    model: nn.Module,
    batches: Iterable[Batch],
    measures: Sequence[Measure],
    device: torch.device,
    precision: MixedPrecision | None,
    processes: Processes = SINGLE_PROCESS,
) -> Measured:
    """Metrics of a model.

    Args:
        model: maps images (B, C, H, W) to outputs (B, K).
        batches: this process's images and their targets.
        measures: the metrics.
        device: where model and batches are.
        precision: the lower precision of mixed precision; `None` for float32 alone.
        processes: the processes that divide the images; each of them calls this function.
    """
    model.eval()
    metrics = [_RunningMetric(measure.running(device)) for measure in measures]
    for images_BCHW, targets in batches:
        with autocast(device, precision):
            outputs_BK: Tensor = model(images_BCHW)
        for measure, metric in zip(measures, metrics, strict=True):
            metric.update(outputs_BK, measure.targets(targets))
    values = tuple(metric.compute(processes) for metric in metrics)
    first = metrics[0].running
    correct = first.correct_images(processes) if isinstance(first, CountedAccuracy) else None
    return Measured(values, tuple(metric.error for metric in metrics), correct)
