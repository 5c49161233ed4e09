"""Augmentation in words: what is done to training images, timm's values included where nothing is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.spec.recipe import Augmentation

SMALL_IMAGES = 96
"""Below this image size in pixels, timm's values for ImageNet are not what one would expect."""
CROP_SCALES: dict[str, tuple[float, float]] = {"rrc": (0.08, 1.0), "rkrc": (0.8, 1.0), "rkrr": (0.8, 1.0)}
"""timm's range of areas of random crops, as fractions of the image, by `train_crop_mode`."""
FLIP = 0.5
"""timm's probability of a horizontal flip."""
JITTER = 0.4
"""timm's strength of color jitter."""
OTHERS = {"grayscale_prob": "grayscale", "gaussian_blur_prob": "Gaussian blur", "re_prob": "random erasing"}
"""Changes with a probability that is 0 by default."""


def augmentation_as_applied(augmentation: Augmentation, supported: Sequence[str]) -> str:
    """What is done to training images, in one line of text.

    Args:
        augmentation: the settings of the recipe.
        supported: fields of `Augmentation` that the data source applies (`DataSource.supported_augmentations`).
    """
    parts = _transform_parts(augmentation.transform) if "transform" in supported else []
    if augmentation.shift:
        parts.append(f"shifts by up to {augmentation.shift} pixels")
    if augmentation.flip:
        parts.append("horizontal flips with probability 0.5")
    mixed = [f"{name} ({alpha:g})" for name in ("mixup", "cutmix") if (alpha := getattr(augmentation, name))]
    if mixed:
        parts.append(" or ".join(mixed))
    return "; ".join(parts) or "none"


def defaults_for_large_images(transform: dict[str, Any]) -> tuple[str, ...]:
    """The crops and color changes that timm makes because the recipe does not say otherwise; empty if it does."""
    if transform.get("no_aug"):
        return ()
    crops = [] if transform.get("scale") else [_crops(transform)]
    jitter = [] if "color_jitter" in transform or not _has_jitter(transform) else [_jitter(transform)]
    return (*crops, *jitter)


def _transform_parts(transform: dict[str, Any]) -> list[str]:
    if transform.get("no_aug"):
        return []
    parts = [_crops(transform)]
    for name, label, default in (("hflip", "horizontal flips", FLIP), ("vflip", "vertical flips", 0.0)):
        if probability := transform.get(name, default):
            parts.append(f"{label} with probability {probability:g}")
    if policy := transform.get("auto_augment"):
        parts.append(f"auto_augment {policy}")
    if _has_jitter(transform):
        parts.append(_jitter(transform))
    for name, label in (
        ("grayscale_prob", "grayscale"),
        ("gaussian_blur_prob", "Gaussian blur"),
        ("re_prob", "random erasing"),
    ):
        if probability := transform.get(name):
            parts.append(f"{label} with probability {probability:g}")
    return parts


def _crops(transform: dict[str, Any]) -> str:
    low, high = transform.get("scale") or CROP_SCALES[transform.get("train_crop_mode") or "rrc"]
    return f"random crops of {100 * low:g} to {100 * high:g} % of the image"


def _has_jitter(transform: dict[str, Any]) -> bool:
    """timm leaves color jitter out beside auto_augment, except for policies with `3a`."""
    return bool(transform.get("color_jitter", JITTER)) and "3a" in (transform.get("auto_augment") or "3a")


def _jitter(transform: dict[str, Any]) -> str:
    strength = transform.get("color_jitter", JITTER)
    shown = f"{strength:g}" if isinstance(strength, int | float) else "/".join(f"{each:g}" for each in strength)
    probability = transform.get("color_jitter_prob")
    return f"color jitter of {shown}" + (f" with probability {probability:g}" if probability is not None else "")
