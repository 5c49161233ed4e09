"""The optimizer steps of a segment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.plan import Segment
from explorer.training.staged_model import TrainingState
from explorer.training.task import Task

# Shapes: B batch, C channels, H height, W width


def training_steps(
    task: Task, state: TrainingState, segment: Segment, batches: Iterator[tuple[Tensor, Tensor]], first: int = 0
) -> Iterator[Tensor]:
    """Do optimizer steps of a segment, yielding each loss (a scalar tensor on the device).

    Args:
        task: whose recipe says how.
        state: what is trained, at the segment's size.
        segment: gives the learning rates.
        batches: images (B, C, H, W) and labels (B,) or shares of classes (B, K); one batch a step.
        first: number in the segment of the first batch.
    """
    recipe, optimizer = task.spec.recipe, state.optimizer
    for step, (images_BCHW, targets) in enumerate(batches, start=first):
        rate = recipe.learning_rate * segment.learning_rate_factor(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        optimizer.zero_grad(set_to_none=True)
        model, device = state.trained, images_BCHW.device
        parts = list(zip(images_BCHW.chunk(recipe.accumulation), targets.chunk(recipe.accumulation), strict=True))
        total = torch.zeros((), device=device)
        for number, (part_BCHW, part_targets) in enumerate(parts, start=1):
            # Processes exchange gradients once a step, with the last part.
            apart = getattr(model, "no_sync", nullcontext) if number < len(parts) else nullcontext
            with apart():
                with torch.autocast(device.type, torch.bfloat16, enabled=task.amp(device)):
                    loss = functional.cross_entropy(model(part_BCHW), part_targets, label_smoothing=recipe.label_smoothing)
                (loss / len(parts)).backward()
            total += loss.detach() / len(parts)
        if recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_grad)
        optimizer.step()
        state.stepped()
        yield total
