"""The order of training images: a function of the seed and the position in the stream."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from explorer.data.seeding import seed_for


def stream_indices(seed: int, start: int, count: int, images: int) -> Tensor:
    """Image numbers at positions `start` to `start + count - 1` of the endless stream, which has one permutation per epoch.

    Args:
        seed: seed of the run.
        start: first position, counted from the start of the run.
        count: number of positions.
        images: number of training images, the length of an epoch.

    Returns:
        int64 (count,)
    """
    parts = []
    while count > 0:
        epoch, offset = divmod(start, images)
        taken = min(count, images - offset)
        parts.append(_permutation(seed, epoch, images)[offset : offset + taken])
        start, count = start + taken, count - taken
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, images: int) -> Tensor:
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_for("order", seed, epoch)))
