"""The optimizer steps of a segment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from timm.models import model_parameters
from timm.utils import dispatch_clip_grad
from torch import Tensor

from explorer.data import Batch
from explorer.segment import Segment
from explorer.training.compilation import begin_step
from explorer.training.task import Task
from explorer.training.training_state import TrainingState

# Shapes: B batch, C channels, H height, W width, K classes


def training_steps(
    task: Task, state: TrainingState, segment: Segment, batches: Iterator[Batch], first_step: int = 0
) -> Iterator[Tensor]:
    """Do optimizer steps of a segment, and yield the loss of each (a scalar tensor on the device).

    Args:
        task: the task; its recipe says how to train.
        state: the state to train, at the segment's size.
        segment: the segment; it gives the learning rates.
        batches: images (B, C, H, W) and targets as `explorer.data.source.TargetKind` says, or class probabilities (B, K); one
            batch per step.
        first_step: number within the segment of the first batch's step, from 0.
    """
    recipe, optimizer = task.spec.recipe, state.optimizer
    for step, (images_BCHW, targets) in enumerate(batches, start=first_step):
        learning_rate = recipe.learning_rate * segment.learning_rate_factor(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        optimizer.zero_grad(set_to_none=True)
        model, device = state.wrapped_model, images_BCHW.device
        parts = list(zip(images_BCHW.chunk(recipe.accumulation), targets.chunk(recipe.accumulation), strict=True))
        step_loss = torch.zeros((), device=device)
        for number, (part_BCHW, part_targets) in enumerate(parts, start=1):
            # Processes exchange gradients once per step, with the last part.
            synchronization = getattr(model, "no_sync", nullcontext) if number < len(parts) else nullcontext
            with synchronization():
                if state.uses_cuda_graphs:
                    begin_step()
                with task.autocast(device):
                    loss = task.objective.training_loss(model(part_BCHW), part_targets, part_BCHW)
                state.scaler.scale(loss / len(parts)).backward()
            step_loss += loss.detach() / len(parts)
        if recipe.clip_grad is not None:
            state.scaler.unscale_(optimizer)
            clipped = model_parameters(state.model, exclude_head=recipe.clip_mode == "agc")
            dispatch_clip_grad(clipped, recipe.clip_grad, recipe.clip_mode)
        state.update()
        yield step_loss
