"""Images that are tensors: with any number of channels, and in units of their own.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from explorer.data.seeding import seed_for, seeded
from explorer.errors import InvalidInput
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation

MAX_COLORS = 4
"""Channels up to which the first or last side of an array can be that of its colors."""
FOR_RGB = ("auto_augment", "color_jitter", "grayscale_prob")
"""Arguments of `timm.data.create_transform` that change colors, which only 8-bit RGB images have."""
TRIED_SIZES = ((40, 24), (24, 40))
"""Height and width in pixels of the images on which a transform is tried."""
OUTSIDE = "images of floats outside the range from 0 to 1, which are normalized by data.preprocessing as they are"

ModelImage = Image.Image | Tensor
"""An image as transforms take it: Pillow's, or a tensor float32 (C, H, W)."""


def as_image(value: Any) -> ModelImage:
    """An image of a data set, as transforms take it.

    Pillow's images stay as they are. So do tensors of floats; those of uint8 are divided by 255, but with three channels
    they become Pillow's, since they are 8-bit RGB.

    Args:
        value: Pillow's image, a tensor uint8 or float (C, H, W) or (H, W), or a NumPy array uint8 or float (H, W, C) or (H, W).

    Raises:
        ValueError: when it is something else.
    """
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, np.ndarray | Tensor):
        raise ValueError(f"is a {type(value).__name__}; images must be Pillow's, tensors, or NumPy arrays")
    is_array = isinstance(value, np.ndarray)
    shape = tuple(value.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"has the shape {shape}; must be {'(H, W, C)' if is_array else '(C, H, W)'} or (H, W)")
    first_last = (shape[0], shape[-1]) if is_array else (shape[-1], shape[0])
    if len(shape) == 3 and first_last[0] <= MAX_COLORS < first_last[1]:
        raise ValueError(f"has the shape {shape}; NumPy arrays must be (H, W, C), and tensors (C, H, W)")
    if str(value.dtype).removeprefix("torch.") not in ("uint8", "float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"has values of {value.dtype}; must be uint8 (brightness from 0 to 255) or floats")
    tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value.detach().cpu()
    if tensor.ndim == 2:
        tensor = tensor[None]
    elif is_array:
        tensor = tensor.permute(2, 0, 1)
    if tensor.dtype != torch.uint8:
        return tensor.float().contiguous()
    if len(tensor) == 3:
        return Image.fromarray(tensor.permute(1, 2, 0).contiguous().numpy())
    return tensor.float().div(255).contiguous()


def channels_of(image: ModelImage) -> int | None:
    """Number of channels of a tensor; `None` for Pillow's images, which become RGB."""
    return len(image) if isinstance(image, Tensor) else None


def check_channels(image: ModelImage, channels: int | None) -> None:
    """Check that an image is of the kind of the first one of its data set.

    Args:
        image: the image.
        channels: number of channels of the tensors of the data set; `None` if its images are Pillow's.

    Raises:
        ValueError: when it is of another kind or has another number of channels.
    """
    own = channels_of(image)
    if own != channels:
        kinds = ["8-bit RGB" if each is None else f"a tensor of {each} channels" for each in (own, channels)]
        raise ValueError(f"is {kinds[0]}, and the first training image is {kinds[1]}")


def check_settings(spec: DataSpec) -> None:
    """Check that the settings of the data suit images that are tensors.

    Raises:
        InvalidInput: naming the setting that is for 8-bit RGB images alone.
    """
    if spec.cache is not None:
        raise InvalidInput("data.cache", spec.cache.model_dump(), "holds 8-bit RGB images, and these are tensors; leave it out")
    if spec.resident in ("cpu", "device"):
        raise InvalidInput(
            "data.resident", spec.resident, "is for 8-bit RGB images, and these are tensors; must be auto or off"
        )
    given = spec.preprocessing
    if given.crop_mode == "border":
        raise InvalidInput("data.preprocessing.crop_mode", "border", "is for 8-bit RGB images; must be center or squash")
    if given.interpolation == "lanczos":
        raise InvalidInput(
            "data.preprocessing.interpolation", "lanczos", "is for 8-bit RGB images; must be bicubic or bilinear"
        )


def check_normalization(spec: DataSpec, channels: int) -> None:
    """Check that mean and standard deviation have a number for each channel.

    Raises:
        InvalidInput: naming the one that has not.
    """
    for name in ("mean", "std"):
        values = getattr(spec.preprocessing, name)
        if (3 if values is None else len(values)) != channels:
            unit = "for pixel values from 0 to 1, or in the units of images that are floats"
            given = None if values is None else list(values)
            reason = f"must be {channels} numbers, one for each channel, {unit} (the model's own are for 3 channels)"
            raise InvalidInput(f"data.preprocessing.{name}", given, reason)


def check_augmentation(augmentation: Augmentation, image_size: int, preprocessing: dict[str, Any], channels: int) -> None:
    """Check by trial that timm's transform can augment tensors of so many channels.

    Raises:
        InvalidInput: naming the setting that is for RGB images, and what to set.
    """
    field, transform = "recipe.augmentation.transform", augmentation.transform
    if augmentation.backend != "pil":
        raise InvalidInput("recipe.augmentation.backend", augmentation.backend, "is for 8-bit RGB images; must be pil")
    if not transform.get("no_aug"):
        for name in FOR_RGB:
            value = transform.get(name, 0.4 if name == "color_jitter" else None)  # timm's own default
            if value:
                default = "" if name in transform else ", timm's value if it is not given,"
                reason = f"{default} changes the colors of 8-bit RGB images, and these are tensors of {channels} channels"
                raise InvalidInput(f"{field}.{name}", value, f"{reason.lstrip(', ')}; set {name}: null")
    try:
        applied = create_transform(image_size, is_training=True, **{**preprocessing, **transform})
        for number, size in enumerate(TRIED_SIZES):
            with seeded(seed_for("check", number)):
                shape = tuple(applied(torch.rand(channels, *size)).shape)
            if shape != (channels, image_size, image_size):
                raise ValueError(f"it makes images of the shape {shape}")
    except Exception as error:  # timm checks by assertions, look-ups and signatures
        reason = f"timm.data.create_transform cannot augment tensors of {channels} channels so: {error!r}"
        raise InvalidInput(field, transform, reason) from None
