"""A finished training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explorer.spec.metric import MetricSpec, SecondMetric
from explorer.spec.time_spent import StageTime, TimeSpent
from explorer.training.compilation import CompiledCode
from explorer.training.progress import SegmentResult


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    model: nn.Module
    """The plain timm model at full size, in evaluation mode; the average of its weights if the recipe keeps one."""
    validation: float
    """Value of the objective's metric on the validation images; of accuracy, a fraction in [0, 1]."""
    test: float
    """The same on the test images."""
    test_correct: NDArray[np.bool_] | None
    """Whether each test image was classified correctly, (N,) in the order of the split; `None` for other metrics."""
    metric: MetricSpec
    """The metric of the objective."""
    also: SecondMetric | None
    """The second metric; `None` if there is none."""
    steps: int
    """Optimizer steps."""
    flops: int
    """Cost of the whole run: the counted FLOPs of all steps."""
    reused_segments: int
    """Number of segments at the start of the plan that were taken from a store."""
    executed_flops: int
    """Cost of the steps that were trained in this run and not taken from a store."""
    seconds: float
    """Time of all steps, with the input for them: what a budget in time pays for. For segments from a store, the time that was
    measured when they were trained."""
    executed_seconds: float
    """Time until the model was trained: the segments trained in this run, and reading and writing states, but not the time
    that `on_segment` and `on_loss_check` take. It includes what the run executed before it was preempted, if it was."""
    evaluation_seconds: float
    """Time of the evaluation of the finished model."""
    time: TimeSpent
    """Where the time went, also in earlier attempts at a run that was interrupted."""
    stage_times: tuple[StageTime, ...]
    """Planned and realised time of the steps of each stage."""
    peak_memory: int | None
    """Largest memory use of a GPU in training, in bytes; `None` on the CPU."""
    segments: tuple[SegmentResult, ...]
    """Results of the plan's segments."""
    skipped_updates: int
    """Number of steps that changed nothing, because their gradients were not finite in fp16."""
    earlier_processes: tuple[int, ...]
    """Numbers of processes that trained the run before it was resumed with another one."""
    compiled: CompiledCode | None
    """What was compiled in this run; `None` if nothing is compiled. Code of earlier runs in the process is reused."""
