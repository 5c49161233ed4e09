"""Augmentation of training images. Random numbers come from the seed and the position in the stream alone.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.data import Mixup, create_transform
from torch import Tensor
from torch.nn import functional

from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, TrainStream
from explorer.errors import InvalidInput
from explorer.spec.recipe import Augmentation


def check_transform(transform: dict[str, Any]) -> None:
    """Check that timm accepts the keyword arguments of `augmentation.transform`.

    Raises:
        InvalidInput: quoting timm's error.
    """
    try:
        create_transform(32, is_training=True, **transform)
    except Exception as error:  # timm checks by assertions, look-ups and signatures
        allowed = f"timm.data.create_transform refuses it: {error!r}"
        raise InvalidInput("recipe.augmentation.transform", transform, allowed) from None


def shift_and_flip(
    images_BCHW: Tensor, augmentation: Augmentation, generator: torch.Generator, batch_size: int, local_slice: slice
) -> Tensor:
    """Translate each image by up to `shift` pixels, padding with the darkest value, and flip each with probability 1/2.

    Args:
        images_BCHW: this process's images of a batch, normalized to [-1, 1].
        augmentation: the largest shift, and whether to flip.
        generator: source of the random numbers; they are drawn for the whole batch, so that processes agree on them.
        batch_size: number of images in the whole batch.
        local_slice: which of them are `images_BCHW`.

    Returns:
        Images of the same shape.
    """
    batch, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    if augmentation.shift:
        shift = augmentation.shift
        offsets_2B = torch.randint(0, 2 * shift + 1, (2, batch_size), generator=generator)[:, local_slice].to(device)
        padded = functional.pad(images_BCHW, (shift,) * 4, value=-1.0)
        rows = offsets_2B[0][:, None] + torch.arange(height, device=device)
        columns = offsets_2B[1][:, None] + torch.arange(width, device=device)
        image = torch.arange(batch, device=device)[:, None, None]
        # Indices around the channel dimension move it last.
        images_BCHW = padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augmentation.flip:
        flipped_B = torch.rand(batch_size, generator=generator)[local_slice].to(device) < 0.5
        images_BCHW = torch.where(flipped_B[:, None, None, None], images_BCHW.flip(-1), images_BCHW)
    return images_BCHW.contiguous()


def mix_batches(batches: Iterator[Batch], stream: TrainStream, classes: int) -> Iterator[Batch]:
    """Apply mixup and cutmix, where the augmentation has them: each batch is mixed with itself in reverse order, as in timm.

    Args:
        batches: the batches of `stream`: images (B, C, H, W) with B even, and labels int64 (B,).
        stream: the section of the stream that the batches are of; has the alphas of mixup and cutmix.
        classes: K.

    Yields:
        Images (B, C, H, W) and class probabilities float32 (B, K); without mixing, the batches unchanged.
    """
    augmentation = stream.augmentation
    if not augmentation.mixes:
        yield from batches
        return
    mixup = Mixup(augmentation.mixup, augmentation.cutmix, label_smoothing=0.0, num_classes=classes)
    for step, (images_BCHW, labels_B) in enumerate(batches, start=stream.first_step):
        with seeded(seed_for("mix", stream.seed, step)):
            yield mixup(images_BCHW.clone(), labels_B)
