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


class BalancedOrder:
    """An order of training images in which every class is drawn equally often (`objective.sampling: balanced`).

    An epoch has as many draws as there are images. Within it, the counts of classes differ by one at most, and so do those of
    the images of one class. Both the classes' places and the images are shuffled by the seed and the epoch alone.

    Args:
        labels_N: label of each training image, int64 (N,); every class from 0 has images.
    """

    def __init__(self, labels_N: Tensor) -> None:
        counts_K = torch.bincount(labels_N)
        self._images_of_class = labels_N.argsort(stable=True).split(counts_K.tolist())

    def indices(self, seed: int, start: int, count: int) -> Tensor:
        """Image numbers at positions `start` to `start + count - 1` of the stream, int64 (count,)."""
        images = sum(len(of_class) for of_class in self._images_of_class)
        parts = []
        while count > 0:
            epoch, offset = divmod(start, images)
            taken = min(count, images - offset)
            parts.append(_balanced_epoch(self, seed, epoch, images)[offset : offset + taken])
            start, count = start + taken, count - taken
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def drawn(self, seed: int, epoch: int, images: int) -> Tensor:
        """The image numbers of an epoch, int64 (images,)."""
        generator = torch.Generator().manual_seed(seed_for("balanced", seed, epoch))
        classes = len(self._images_of_class)
        shuffled_K = torch.randperm(classes, generator=generator)  # which classes are drawn once more than the others
        class_N = shuffled_K[torch.arange(images) % classes][torch.randperm(images, generator=generator)]
        drawn_N = torch.empty(images, dtype=torch.int64)
        for label, of_class in enumerate(self._images_of_class):
            places = (class_N == label).nonzero().flatten()
            rounds = -(-len(places) // len(of_class))
            order = [of_class[torch.randperm(len(of_class), generator=generator)] for _ in range(rounds)]
            drawn_N[places] = torch.cat(order)[: len(places)] if order else places
        return drawn_N


@lru_cache(maxsize=4)
def _balanced_epoch(order: BalancedOrder, seed: int, epoch: int, images: int) -> Tensor:
    return order.drawn(seed, epoch, images)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, images: int) -> Tensor:
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_for("order", seed, epoch)))
