"""Accuracy on data that training does not see."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from explorer.data import Batch, Split
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import MixedPrecision, Task, autocast

# Shapes: B batch, C channels, H height, W width, K classes


def accuracy(model: nn.Module, task: Task, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS) -> float:
    """Fraction of a split's images that the model classifies correctly, in [0, 1]. The processes divide the images."""
    batches = task.data.evaluation_batches(split, device, processes.rank, processes.count)
    counted = correct_and_seen(model, batches, device, task.precision(device))
    correct, seen = processes.all_reduce(counted).tolist()
    return correct / seen


@torch.no_grad()
def correct_and_seen(
    model: nn.Module, batches: Iterable[Batch], device: torch.device, precision: MixedPrecision | None
) -> Tensor:
    """Number of images that the model classifies correctly, and of all images: int64 (2,) on the device.

    Args:
        model: maps images (B, C, H, W) to scores (B, K).
        batches: the images and their labels.
        device: where model and batches are.
        precision: the lower precision of mixed precision; `None` for float32 alone.
    """
    model.eval()
    counted = torch.zeros(2, dtype=torch.int64, device=device)
    for images_BCHW, labels_B in batches:
        with autocast(device, precision):
            logits_BK = model(images_BCHW)
        counted[0] += (logits_BK.argmax(dim=1) == labels_B).sum()
        counted[1] += len(labels_B)
    return counted
