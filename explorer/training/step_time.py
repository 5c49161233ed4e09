"""Seconds of a training step, measured on this device."""

from __future__ import annotations

import math
from itertools import islice

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
MIN_STEPS = 9
MAX_STEPS = 5000
MIN_SECONDS = 0.5
MAX_UNCHECKED_STEPS = 50
"""Largest number of steps between two waits for the device, as between two loss checks of a training."""


def step_seconds(task: Task, rates: Rates, device: str | torch.device = "cpu", min_seconds: float = MIN_SECONDS) -> float:
    """Mean seconds of a training step at constant rates, with its input; see `step_time`."""
    return step_time(task, rates, device, min_seconds).seconds


def step_time(
    task: Task,
    rates: Rates,
    device: str | torch.device = "cpu",
    min_seconds: float = MIN_SECONDS,
    processes: Processes = SINGLE_PROCESS,
) -> Lap:
    """Time of a training step at constant rates, as in training: batch, forward, backward, optimizer.

    The device is waited for as rarely as in training, where the next step is prepared while it computes.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        min_seconds: how long to measure at least.
        processes: the processes that train together; each of them calls this function.

    Returns:
        A lap of one step: its mean seconds, and those of its input.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    device = torch.device(device)
    state = TrainingState(task, 0, device, processes)
    state.set_rates(rates)
    warmup = WARMUP_STEPS + PREFETCHED_BATCHES * task.spec.data.num_workers
    segment = Segment(
        stage=0,
        requested=rates,
        rates=rates,
        steps=warmup + MAX_STEPS,
        step_flops=0,
        start_time=0.0,
        end_time=1.0,
        lr_schedule=LearningRateSchedule(),
    )
    watch = Stopwatch(device)
    batches = watch.reading(task.train_batches(0, 0, segment.steps, device, processes))
    losses = training_steps(task, state, segment, batches)

    def lap(steps: int) -> Lap:
        watch.start()
        for _ in islice(losses, steps):
            pass
        watch.wait()
        return watch.lap()

    lap(warmup)
    total = lap(MIN_STEPS)
    # By the main process's clock, because all processes must make the same steps.
    while missing := processes.broadcast(max(0, math.ceil(total.steps * (min_seconds / total.seconds - 1)))):
        steps = min(missing, MAX_UNCHECKED_STEPS, MAX_STEPS - total.steps)
        if steps == 0:
            break
        total += lap(steps)
    return Lap(1, total.seconds / total.steps, total.input_seconds / total.steps)
