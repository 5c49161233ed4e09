"""The metrics of a task on data that training does not see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explorer.data import Batch, Split
from explorer.spec.metric import MetricSpec
from explorer.training.checkpoint import random_state, restore_random_state
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.metrics import CountedAccuracy, Measure, not_a_value
from explorer.training.task import MixedPrecision, Task, autocast

# Shapes: B batch, C channels, H height, W width, K classes


class Measured(NamedTuple):
    """What was measured on a split."""

    values: tuple[float, ...]
    """The metric, and the second one if there is one."""
    correct: NDArray[np.bool_] | None
    """Whether each image was classified correctly, (N,) in the order of the split; `None` where the metric is not accuracy."""


class NotMeasuredError(ArithmeticError):
    """A metric of a trained model is no number; the message says which, and where."""


def evaluated(
    model: nn.Module, task: Task, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> Measured:
    """The metric of a task's objective on a split. The processes divide the images.

    Raises:
        NotMeasuredError: when a metric is NaN, infinite, or outside of its bounds.
    """
    batches = task.data.evaluation_batches(split, device, processes.rank, processes.count)
    measures = task.objective.measures
    result = measured(model, batches, measures, device, task.precision(device), processes)
    for measure, value in zip(measures, result.values, strict=True):
        check_value(measure.metric, value, split)
    return result


def evaluated_in_training(
    model: nn.Module, task: Task, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> tuple[float, ...]:
    """The metrics of a model that is being trained, on the validation images, without any effect on its training.

    Returns:
        The metric, and the second one if there is one; NaN for one that is no number, which only that of the finished model
        must be.
    """
    modes = [(module, module.training) for module in model.modules()]
    random = random_state()  # torch's data loaders draw from it
    try:
        batches = task.data.evaluation_batches("validation", device, processes.rank, processes.count)
        measures = task.objective.measures
        values = measured(model, batches, measures, device, task.precision(device), processes).values
        pairs = zip(measures, values, strict=True)
        return tuple(math.nan if not_a_value(measure.metric, value) else value for measure, value in pairs)
    finally:
        restore_random_state(random)
        for module, mode in modes:
            module.training = mode


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
    running = [measure.running(device) for measure in measures]
    for images_BCHW, targets in batches:
        with autocast(device, precision):
            outputs_BK: Tensor = model(images_BCHW)
        for measure, metric in zip(measures, running, strict=True):
            metric.update(outputs_BK, measure.targets(targets))
    values = tuple(metric.compute(processes) for metric in running)
    return Measured(values, running[0].correct_images(processes) if isinstance(running[0], CountedAccuracy) else None)
