"""Seconds of a training step, measured on this device next to those of another training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from statistics import fmean, median, quantiles

import torch

from explorer.segment import Segment
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.steps import training_steps
from explorer.training.stopwatch import Lap, Stopwatch
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
MAX_UNCHECKED_STEPS = 50
"""Largest number of steps between two waits for the device, as between two loss checks of a training."""


class TimedTraining:
    """A training at constant rates whose steps are timed in blocks, as in training: batch, forward, backward, optimizer.

    The device is waited for as rarely as in training, where the next step is prepared while it computes.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        processes: the processes that train together; each of them times the same trainings.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """

    def __init__(
        self, task: Task, rates: Rates, device: str | torch.device = "cpu", processes: Processes = SINGLE_PROCESS
    ) -> None:
        self._task, self._device, self._processes = task, torch.device(device), processes
        self._state = TrainingState(task, 0, self._device, processes)
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
        self._watch = Stopwatch(self._device)
        self._losses = self._endless_losses()
        self._prefetched = PREFETCHED_BATCHES * task.spec.data.num_workers
        self._train(WARMUP_STEPS + self._prefetched)

    def block(self, steps: int) -> Lap:
        """Time of some steps, after those whose batches were prefetched while other trainings were timed."""
        self._train(self._prefetched)
        total = Lap()
        while steps:
            part = min(steps, MAX_UNCHECKED_STEPS)
            total, steps = total + self._train(part), steps - part
        return total

    def steps_in(self, seconds: float) -> int:
        """Number of steps that take about this long, at least `MIN_STEPS`: by the main process's clock."""
        step = _step_seconds(self.block(MIN_STEPS))
        return self._processes.broadcast(max(MIN_STEPS, min(MAX_STEPS, round(seconds / step))))

    def _train(self, steps: int) -> Lap:
        self._watch.start()
        for _ in islice(self._losses, steps):
            pass
        self._watch.wait()
        return self._watch.lap()

    def _endless_losses(self) -> Iterator[torch.Tensor]:
        while True:
            batches = self._watch.reading(
                self._task.train_batches(0, 0, MAX_STEPS, self._device, self._processes, self._segment.requested)
            )
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
        self._blocks: list[Lap] = []

    def relative(self, training: TimedTraining) -> Lap:
        """The time of one step of a training, in seconds per second of a step of the reference: medians over the rounds."""
        steps = training.steps_in(self._block_seconds)
        ratios, inputs = [], []
        before = self._reference_seconds()
        for _ in range(ROUNDS):
            lap = training.block(steps)
            after = self._reference_seconds()
            ratios.append(_step_seconds(lap) / fmean((before, after)))
            inputs.append(lap.input_seconds / lap.seconds)
            before = after
        return Lap(1, median(ratios), median(ratios) * median(inputs))

    @property
    def reference(self) -> Lap:
        """The time of one step of the reference: medians over all of its blocks so far."""
        blocks = self._enough_blocks()
        seconds = median(map(_step_seconds, blocks))
        return Lap(1, seconds, seconds * median(lap.input_seconds / lap.seconds for lap in blocks))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Quartiles of the reference's seconds per step, over all of its blocks so far."""
        low, _, high = quantiles(map(_step_seconds, self._enough_blocks()), n=4, method="inclusive")
        return low, high

    def _enough_blocks(self) -> list[Lap]:
        while len(self._blocks) <= ROUNDS:
            self._reference_seconds()
        return self._blocks

    def _reference_seconds(self) -> float:
        self._blocks.append(self._reference.block(self._steps))
        return _step_seconds(self._blocks[-1])


def step_seconds(
    task: Task,
    rates: Rates,
    device: str | torch.device = "cpu",
    min_seconds: float = MIN_SECONDS,
    processes: Processes = SINGLE_PROCESS,
) -> float:
    """Median seconds of a training step at constant rates, with its input, over `ROUNDS` blocks of steps.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        min_seconds: about how long to measure.
        processes: the processes that train together; each of them calls this function.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    return StepTimer(TimedTraining(task, rates, device, processes), 2 * min_seconds).reference.seconds


def _step_seconds(lap: Lap) -> float:
    return lap.seconds / lap.steps
