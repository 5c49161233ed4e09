"""Accuracy on data that training does not see."""

from __future__ import annotations

import torch
from torch import nn

from explorer.data import Split
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import Task

# Shapes: B batch, C channels, H height, W width, K classes


@torch.no_grad()
def accuracy(model: nn.Module, task: Task, split: Split, device: torch.device, processes: Processes = SINGLE_PROCESS) -> float:
    """Fraction of a split's images that the model classifies correctly, in [0, 1]. The processes divide the images."""
    model.eval()
    correct_and_seen = torch.zeros(2, dtype=torch.int64, device=device)
    for images_BCHW, labels_B in task.data.evaluation_batches(split, device, processes.rank, processes.count):
        with task.autocast(device):
            logits_BK = model(images_BCHW)
        correct_and_seen[0] += (logits_BK.argmax(dim=1) == labels_B).sum()
        correct_and_seen[1] += len(labels_B)
    correct, seen = processes.all_reduce(correct_and_seen).tolist()
    return correct / seen
