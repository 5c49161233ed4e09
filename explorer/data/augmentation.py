"""Augmentation of training images. Random numbers come from the seed and the position in the stream alone.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import Mixup, create_transform
from timm.data.auto_augment import AugmentOp, AugMixAugment, AutoAugment, RandAugment
from torch import Tensor
from torch.nn import functional

from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, TrainStream
from explorer.errors import InvalidInput
from explorer.spec.recipe import Augmentation

_FIXED = "cannot be chosen: training needs normalized tensors of one size"
NOT_FOR_TRAINING: dict[str, str] = {
    "crop_pct": "acts in evaluation only: set data.preprocessing.crop_pct",
    "crop_mode": "acts in evaluation only: set data.preprocessing.crop_mode",
    "crop_border_pixels": "acts in evaluation only",
    "re_num_splits": "cannot be chosen: it divides batches, and images are augmented one by one",
    "use_prefetcher": _FIXED,
    "normalize": _FIXED,
    "separate": _FIXED,
    "tf_preprocessing": _FIXED,
    "naflex": _FIXED,
    "patch_size": _FIXED,
    "max_seq_len": _FIXED,
    "patchify": _FIXED,
    "patchify_channels_last": _FIXED,
    "patchify_flatten": _FIXED,
}
"""Arguments of `timm.data.create_transform` that `augmentation.transform` may not have, and why."""
PROBABILITIES = ("hflip", "vflip", "color_jitter_prob", "grayscale_prob", "gaussian_blur_prob", "re_prob")
"""Arguments of `timm.data.create_transform` that are probabilities."""
RANGES = ("scale", "ratio")
"""Arguments of `timm.data.create_transform` that are two positive numbers, the lower one first."""
POLICY_SECTION = r"[a-su-z][a-z]*\d.*|t(weights|3aw?)"
"""The sections of a policy (`m9`, `mstd0.5`, `tweights`) that timm does not ignore."""
TRIED_SIZES = ((40, 24), (24, 40), (300, 30))
"""Width and height in pixels of the images that `check_transform` transforms."""


def training_transform(image_size: int | tuple[int, int], arguments: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """timm's transform of training images, with one change that lets its policies run with today's Pillow.

    RandAugment (`inc1`), AugMix and AutoAugment (`v0`) posterize to 0 bits at the ends of their range, which Pillow refuses:
    one bit per channel is kept there. Nothing else differs from timm, and no image that timm can transform.

    Args:
        image_size: height and width of the result in pixels, or the side of a square.
        arguments: keyword arguments of `timm.data.create_transform`.

    Returns:
        A function from an RGB image to a normalized tensor float32 (3, H, W).
    """
    transform = create_transform(image_size, is_training=True, **arguments)
    for operation in policy_operations(transform):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize
    return transform


def posterize(image: Image.Image, bits_to_keep: int, **_: Any) -> Image.Image:
    """Keep the highest bits of each channel: at least one, and all from 8 on."""
    return image if bits_to_keep >= 8 else ImageOps.posterize(image, max(1, bits_to_keep))


def policy_operations(transform: Any) -> Iterator[AugmentOp]:
    """The operations of RandAugment, AugMix and AutoAugment among the parts of a transform."""
    for part in getattr(transform, "transforms", ()):
        if isinstance(part, RandAugment | AugMixAugment):
            yield from part.ops
        elif isinstance(part, AutoAugment):
            yield from chain.from_iterable(part.policy)


def check_transform(transform: dict[str, Any], image_size: int) -> None:
    """Check the keyword arguments of `augmentation.transform` by transforming images with everything in them that is random.

    Raises:
        InvalidInput: when an argument has no effect or does not fit training, or timm refuses it.
    """
    _check_transform(json.dumps(transform, sort_keys=True, default=str), image_size)


@lru_cache(maxsize=64)
def _check_transform(transform_json: str, image_size: int) -> None:
    transform: dict[str, Any] = json.loads(transform_json)
    field = "recipe.augmentation.transform"
    for name, value in transform.items():
        if name in NOT_FOR_TRAINING:
            raise InvalidInput(f"{field}.{name}", value, NOT_FOR_TRAINING[name])
        if name in PROBABILITIES and value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise InvalidInput(f"{field}.{name}", value, "must be a probability from 0 to 1")
        if name in RANGES and value is not None and not _is_range(value):
            raise InvalidInput(f"{field}.{name}", value, "must be two numbers above 0, the lower one first")
    if transform.get("no_aug") and (unused := sorted(transform.keys() - {"no_aug", "interpolation"})):
        raise InvalidInput(f"{field}.no_aug", True, f"disables all augmentation: {', '.join(unused)} would have no effect")
    policy = transform.get("auto_augment")
    for section in policy.split("-")[1:] if isinstance(policy, str) else ():
        if not re.fullmatch(POLICY_SECTION, section):
            raise InvalidInput(f"{field}.auto_augment", policy, f"timm would ignore {section!r}")
    certain = {name: 1.0 for name in PROBABILITIES if transform.get(name)}
    try:
        applied = training_transform(image_size, {**transform, **certain})
        for number, size in enumerate(TRIED_SIZES):
            with seeded(seed_for("check", number)):
                result = applied(Image.new("RGB", size, (200, 120, 40)))
            if result.shape != (3, image_size, image_size):
                raise ValueError(f"it makes images of the shape {tuple(result.shape)}")
    except Exception as error:  # timm checks by assertions, look-ups and signatures
        raise InvalidInput(field, transform, f"timm.data.create_transform refuses it: {error!r}") from None


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(each, int | float) for each in value)
        and 0 < value[0] <= value[1]
    )


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
            mixed = mixup(images_BCHW.clone(), labels_B)
        yield mixed  # outside: the training step draws from the process's own random numbers
