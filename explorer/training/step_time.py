"""Seconds of a training step, measured on the device at hand."""

from __future__ import annotations

import time
from statistics import fmean

import torch
from torch import nn

from explorer.learning_rate import LearningRateCurve
from explorer.plan import Segment
from explorer.schedule import Rates
from explorer.training.loop import training_steps
from explorer.training.task import Task

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
    recipe = task.spec.recipe
    model = task.build_model().to(device).train()
    optimizer = task.build_optimizer(model)
    task.elastic(model, seed=0).set_rates(rates, optimizer)
    trained: nn.Module = torch.compile(model, dynamic=False) if recipe.compile else model  # type: ignore[assignment]
    amp = recipe.amp == "bf16" or (recipe.amp == "auto" and device.type == "cuda")
    segment = Segment(0, rates, rates, MOST_STEPS, 0, 0.0, 1.0, LearningRateCurve())
    batches = task.data.train_batches(0, 0, MOST_STEPS, task.batch_size, recipe.augmentation, device)
    seconds: list[float] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=amp):
        steps = training_steps(task, trained, optimizer, segment, batches)
        begun = started = time.perf_counter()
        for _ in steps:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            seconds.append(now - started)
            started = now
            if len(seconds) >= WARMUP_STEPS + LEAST_STEPS and now - begun >= least_seconds:
                break
    return fmean(seconds[WARMUP_STEPS:])
