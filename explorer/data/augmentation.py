"""Changes to training images. Random numbers come from the seed and the position in the data stream alone.

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
from explorer.errors import InvalidInput
from explorer.spec.recipe import Augmentation


def check_transform(transform: dict[str, Any]) -> None:
    """See that timm accepts the keyword arguments of `augmentation.transform`.

    Raises:
        InvalidInput: naming what timm says.
    """
    try:
        create_transform(32, is_training=True, **transform)
    except Exception as error:  # timm checks by assertions, look-ups and signatures
        allowed = f"timm.data.create_transform refuses it: {error!r}"
        raise InvalidInput("recipe.augmentation.transform", transform, allowed) from None


def shift_and_flip(images_BCHW: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Translate each image by up to `shift` pixels, filling with the darkest value, and flip every other one."""
    batch, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    if augmentation.shift:
        most = augmentation.shift
        offsets = torch.randint(0, 2 * most + 1, (2, batch), generator=generator).to(device)
        padded = functional.pad(images_BCHW, (most,) * 4, value=-1.0)
        rows = offsets[0][:, None] + torch.arange(height, device=device)
        columns = offsets[1][:, None] + torch.arange(width, device=device)
        image = torch.arange(batch, device=device)[:, None, None]
        # Indices around the channel dimension move it last.
        images_BCHW = padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augmentation.flip:
        flipped = torch.rand(batch, generator=generator).to(device) < 0.5
        images_BCHW = torch.where(flipped[:, None, None, None], images_BCHW.flip(-1), images_BCHW)
    return images_BCHW.contiguous()


def mixed(
    batches: Iterator[tuple[Tensor, Tensor]], augmentation: Augmentation, classes: int, seed: int, first_step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mix each batch with itself in reverse order, as timm does.

    Args:
        batches: images (B, C, H, W), B even, and labels int64 (B,).
        augmentation: with the alphas of mixup and cutmix.
        classes: K.
        seed: of the run.
        first_step: number of the first batch.

    Yields:
        Images (B, C, H, W) and each class's share float32 (B, K); without mixing, the batches as they are.
    """
    if not augmentation.mixes:
        yield from batches
        return
    mixup = Mixup(augmentation.mixup, augmentation.cutmix, label_smoothing=0.0, num_classes=classes)
    for step, (images_BCHW, labels_B) in enumerate(batches, start=first_step):
        with seeded(seed_for("mix", seed, step)):
            yield mixup(images_BCHW.clone(), labels_B)
