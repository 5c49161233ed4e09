"""Seconds of a training step, measured on the device at hand."""

from __future__ import annotations

import time
from statistics import fmean

import torch

from explorer.plan import Segment
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.training.distributed import SINGLE_PROCESS
from explorer.training.staged_model import TrainingState
from explorer.training.steps import training_steps
from explorer.training.task import Task

PREFETCHED = 2
"""Batches that a process that decodes images is ahead by: these take no time when they are asked for."""
WARMUP_STEPS, LEAST_STEPS, MOST_STEPS, LEAST_SECONDS = 3, 9, 5000, 0.5


def step_seconds(task: Task, rates: Rates, device: str | torch.device = "cpu", least_seconds: float = LEAST_SECONDS) -> float:
    """Mean seconds of a training step at constant rates, as the loop does it: batch, forward, backward, optimizer.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        least_seconds: how long to measure.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    device = torch.device(device)
    state = TrainingState(task, 0, device, SINGLE_PROCESS)
    state.set_rates(rates)
    segment = Segment(0, rates, rates, MOST_STEPS, 0, 0.0, 1.0, LearningRateSchedule())
    batches = task.train_batches(0, 0, MOST_STEPS, device)
    warmup = WARMUP_STEPS + PREFETCHED * task.spec.data.num_workers
    seconds: list[float] = []
    begun = started = time.perf_counter()
    for _ in training_steps(task, state, segment, batches):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        seconds.append(now - started)
        started = now
        if len(seconds) >= warmup + LEAST_STEPS and now - begun >= least_seconds:
            break
    return fmean(seconds[warmup:])
