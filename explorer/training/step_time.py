"""Seconds of a training step, measured on this device."""

from __future__ import annotations

import time
from statistics import fmean

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
MIN_STEPS = 9
MAX_STEPS = 5000
MIN_SECONDS = 0.5


def step_seconds(task: Task, rates: Rates, device: str | torch.device = "cpu", min_seconds: float = MIN_SECONDS) -> float:
    """Mean seconds of a training step at constant rates, as in training: batch, forward, backward, optimizer.

    Args:
        task: model, data, batch size and recipe.
        rates: requested rates.
        device: where to train.
        min_seconds: how long to measure at least.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    device = torch.device(device)
    state = TrainingState(task, 0, device, SINGLE_PROCESS)
    state.set_rates(rates)
    segment = Segment(
        stage=0,
        requested=rates,
        rates=rates,
        steps=MAX_STEPS,
        step_flops=0,
        start_time=0.0,
        end_time=1.0,
        lr_schedule=LearningRateSchedule(),
    )
    batches = task.train_batches(0, 0, MAX_STEPS, device, rates=rates)
    warmup = WARMUP_STEPS + PREFETCHED_BATCHES * task.spec.data.num_workers
    seconds: list[float] = []
    started = step_started = time.perf_counter()
    for _ in training_steps(task, state, segment, batches):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        seconds.append(now - step_started)
        step_started = now
        if len(seconds) >= warmup + MIN_STEPS and now - started >= min_seconds:
            break
    return fmean(seconds[warmup:])
