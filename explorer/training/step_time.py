"""Seconds of a training step, measured on the device at hand."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch.nn import functional

from explorer.schedule import Rates
from explorer.training.task import Task

WARMUP_STEPS, LEAST_STEPS, LEAST_SECONDS = 3, 9, 0.5


def step_seconds(task: Task, rates: Rates, device: str | torch.device = "cpu") -> float:
    """Median seconds of a training step (forward, backward, optimizer) at constant rates, on random images; no data loading.

    Args:
        task: model, batch size and recipe.
        rates: requested rates.
        device: where to train.

    Raises:
        InvalidInput: when the model cannot have these rates.
    """
    device = torch.device(device)
    recipe, size = task.spec.recipe, task.data.image_size
    model = task.build_model().to(device).train()
    optimizer = task.build_optimizer(model)
    task.elastic(model, seed=0).set_rates(rates, optimizer)
    images_BCHW = torch.randn(task.batch_size, task.data.channels, size, size, device=device)
    labels_B = torch.zeros(task.batch_size, dtype=torch.long, device=device)
    amp = recipe.amp == "bf16" or (recipe.amp == "auto" and device.type == "cuda")
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < WARMUP_STEPS + LEAST_STEPS or time.perf_counter() - begun < LEAST_SECONDS:
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            loss = functional.cross_entropy(model(images_BCHW), labels_B)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return median(seconds[WARMUP_STEPS:])
