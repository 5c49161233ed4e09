"""Seconds of a training step, measured on this device next to those of another training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import fmean, median, quantiles

import torch

from explorer.segment import Segment
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.steps import training_steps
from explorer.training.task import Task
from explorer.training.training_state import TrainingState

PREFETCHED_BATCHES = 2
"""Batches that each data-loader process has ready in advance: waiting for these takes no time."""
WARMUP_STEPS = 3
ROUNDS = 5
"""Blocks of steps that are timed for each training, in turn with those that it is compared with."""
MIN_STEPS = 2
"""Smallest number of steps in a block."""
MAX_STEPS = 5000
MIN_SECONDS = 0.5


class TimedTraining:
    """A training at constant rates whose steps are timed in blocks, as in training: batch, forward, backward, optimizer.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """

    def __init__(self, task: Task, rates: Rates, device: str | torch.device = "cpu") -> None:
        self._task, self._device = task, torch.device(device)
        self._state = TrainingState(task, 0, self._device, SINGLE_PROCESS)
        self._state.set_rates(rates)
        self._segment = Segment(
            stage=0,
            requested=rates,
            rates=rates,
            steps=MAX_STEPS,
            step_flops=0,
            start_time=0.0,
            end_time=1.0,
            lr_schedule=LearningRateSchedule(),
        )
        self._losses = self._endless_losses()
        self._prefetched = PREFETCHED_BATCHES * task.spec.data.num_workers
        self._train(WARMUP_STEPS + self._prefetched)

    def block(self, steps: int) -> float:
        """Mean seconds of a step over a block of steps, after those whose batches were prefetched while others were timed."""
        self._train(self._prefetched)
        started = time.perf_counter()
        self._train(steps)
        return (time.perf_counter() - started) / steps

    def steps_in(self, seconds: float) -> int:
        """Number of steps that take about this long, at least `MIN_STEPS`."""
        return max(MIN_STEPS, min(MAX_STEPS, round(seconds / self.block(MIN_STEPS))))

    def _train(self, steps: int) -> None:
        for _ in range(steps):
            next(self._losses)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _endless_losses(self) -> Iterator[torch.Tensor]:
        while True:
            batches = self._task.train_batches(0, 0, MAX_STEPS, self._device)
            yield from training_steps(self._task, self._state, self._segment, batches)


class StepTimer:
    """Measures step times in turn with those of one reference training, so that drifts of the machine's speed cancel.

    Args:
        reference: the training that all others are compared with: the full model with the recipe's batch size.
        seconds: how long each training is measured, its turns of the reference included.
    """

    def __init__(self, reference: TimedTraining, seconds: float = MIN_SECONDS) -> None:
        self._reference, self._block_seconds = reference, seconds / (2 * ROUNDS)
        self._steps = reference.steps_in(self._block_seconds)
        self._blocks: list[float] = []

    def relative_to_reference(self, training: TimedTraining) -> float:
        """Seconds of a step over those of the reference: the median over the rounds."""
        steps = training.steps_in(self._block_seconds)
        ratios = []
        before = self._reference_block()
        for _ in range(ROUNDS):
            seconds = training.block(steps)
            after = self._reference_block()
            ratios.append(seconds / fmean((before, after)))
            before = after
        return median(ratios)

    @property
    def seconds(self) -> float:
        """Seconds of a step of the reference: the median over all of its blocks so far."""
        return median(self._enough_blocks())

    @property
    def quartiles(self) -> tuple[float, float]:
        """Quartiles of the reference's seconds per step, over all of its blocks so far."""
        low, _, high = quantiles(self._enough_blocks(), n=4, method="inclusive")
        return low, high

    def _enough_blocks(self) -> list[float]:
        while len(self._blocks) <= ROUNDS:
            self._reference_block()
        return self._blocks

    def _reference_block(self) -> float:
        self._blocks.append(self._reference.block(self._steps))
        return self._blocks[-1]


def step_seconds(task: Task, rates: Rates, device: str | torch.device = "cpu", min_seconds: float = MIN_SECONDS) -> float:
    """Median seconds of a training step at constant rates over `ROUNDS` blocks of steps.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        min_seconds: about how long to measure.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    return StepTimer(TimedTraining(task, rates, device), 2 * min_seconds).seconds
