"""timm's operations of RandAugment and AutoAugment, and color jitter, on groups of images with one argument for each image.

Brightness values stay whole numbers between operations, as in Pillow. torchvision computes what an operation blends with or
moves towards; where its functions take one argument for all images, torch's broadcasting applies each image's own.

Shapes: N images of a group, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms.v2 import functional

from explorer.data.drawing import Operation

Arguments = list[tuple[float, ...]]
"""The arguments of an operation for each image of a group."""


def apply_operations(images_N3HW: Tensor, operations: Sequence[tuple[Operation, ...]], fill: Sequence[int]) -> None:
    """Change images in place. In each pass, the images that have the same operation next are changed together.

    Args:
        images_N3HW: uint8.
        operations: the operations of each image, in order.
        fill: brightness of the three channels outside of moved images.
    """
    for place in range(max(map(len, operations), default=0)):
        groups: dict[str, list[int]] = {}
        for number, of_image in enumerate(operations):
            if place < len(of_image):
                groups.setdefault(of_image[place].name, []).append(number)
        for name, numbers in groups.items():
            index = torch.tensor(numbers, device=images_N3HW.device)
            arguments = [operations[number][place].arguments for number in numbers]
            group = images_N3HW.index_select(0, index)
            changed = _moved(name, group, arguments, fill) if name in MATRICES else CHANGES[name](group, arguments)
            images_N3HW.index_copy_(0, index, changed)


def _column(arguments: Arguments, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The first argument of each image, (N, 1, 1, 1)."""
    values = [each[0] for each in arguments]
    return torch.tensor(values, dtype=dtype, device=images.device)[:, None, None, None]


def _blended(source: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Arguments], Tensor]:
    """Interpolate or extrapolate from a changed image (factor 0) to the image itself (1), as Pillow's `ImageEnhance`."""

    def change(images: Tensor, arguments: Arguments) -> Tensor:
        mixed = torch.lerp(source(images).float(), images.float(), _column(arguments, images))
        return mixed.clamp_(0, 255).to(torch.uint8)

    return change


def _black(images: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.uint8, device=images.device).expand(images.shape)


def _posterized(images: Tensor, arguments: Arguments) -> Tensor:
    bits = _column(arguments, images, torch.int64).clamp(1, 8)  # as `augmentation.posterize`
    return images & (256 - 2 ** (8 - bits)).to(torch.uint8)


def _solarized(images: Tensor, arguments: Arguments) -> Tensor:
    return torch.where(images >= _column(arguments, images, torch.int16), 255 - images, images)


def _brightened_below_half(images: Tensor, arguments: Arguments) -> Tensor:
    added = (images.to(torch.int16) + _column(arguments, images, torch.int16)).clamp_(max=255)
    return torch.where(images < 128, added.to(torch.uint8), images)


def _desaturated(images: Tensor, arguments: Arguments) -> Tensor:
    return CHANGES["Color"](images, [(min(1.0, max(0.0, 1.0 - each[0])),) for each in arguments])


def _each(change: Callable[..., Tensor]) -> Callable[[Tensor, Arguments], Tensor]:
    """One image after another, for rare operations."""
    return lambda images, arguments: torch.stack([change(image, *each) for image, each in zip(images, arguments, strict=True)])


def _blurred(image: Tensor, kernel_size: float, sigma: float) -> Tensor:
    return functional.gaussian_blur(image, [int(kernel_size)] * 2, [sigma, sigma])


def _blurred_like_pillow(image: Tensor, radius: float) -> Tensor:
    return _blurred(image, 2 * math.ceil(3 * radius) + 1, radius)


CHANGES: dict[str, Callable[[Tensor, Arguments], Tensor]] = {
    "AutoContrast": lambda images, _: functional.autocontrast(images),
    "Equalize": lambda images, _: functional.equalize(images),
    "Invert": lambda images, _: functional.invert(images),
    "Solarize": _solarized,
    "SolarizeAdd": _brightened_below_half,
    "Posterize": _posterized,
    "Brightness": _blended(_black),
    "Contrast": _blended(lambda images: functional.adjust_contrast(images, 0.0)),
    "Color": _blended(lambda images: functional.adjust_saturation(images, 0.0)),
    "Sharpness": _blended(lambda images: functional.adjust_sharpness(images, 0.0)),
    "Desaturate": _desaturated,
    "Hue": _each(functional.adjust_hue),
    "Blur": _each(_blurred),
    "GaussianBlur": _each(_blurred_like_pillow),
}
"""Operations that change colors."""
for _name in ("Solarize", "Posterize", "Brightness", "Contrast", "Color", "Sharpness"):
    for _variant in ("Increasing", "Original"):  # these differ in how a magnitude becomes an argument
        CHANGES[_name + _variant] = CHANGES[_name]

Matrix = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f)."""


def _rotation(degrees: float, height: int, width: int) -> Matrix:
    angle = -math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "Rotate": _rotation,
    "ShearX": lambda factor, *_: (1, factor, 0, 0, 1, 0),
    "ShearY": lambda factor, *_: (1, 0, 0, factor, 1, 0),
    "TranslateX": lambda pixels, *_: (1, 0, pixels, 0, 1, 0),
    "TranslateY": lambda pixels, *_: (1, 0, 0, 0, 1, pixels),
    "TranslateXRel": lambda share, _, width: (1, 0, share * width, 0, 1, 0),
    "TranslateYRel": lambda share, height, _: (1, 0, 0, 0, 1, share * height),
}
"""Operations that move pixels, by the argument and the height and width of the images."""


def _moved(name: str, images: Tensor, arguments: Arguments, fill: Sequence[int]) -> Tensor:
    """Move pixels; interpolation is bilinear, whatever timm draws: bicubic takes three times as long."""
    count, _, height, width = images.shape
    device: Any = images.device
    matrices = [MATRICES[name](each[0], height, width) for each in arguments]
    a, b, c, d, e, f = torch.tensor(matrices, dtype=torch.float32, device=device).T[:, :, None]
    x_W, y_H = (torch.arange(side, device=device) + 0.5 for side in (width, height))
    # In the coordinates of `grid_sample`, the image spans -1 to 1. Sums of rows and columns: 20 times as fast as `affine_grid`.
    grid_NHW2 = torch.empty(count, height, width, 2, device=device)
    torch.add((2 / width * a * x_W)[:, None], (2 / width * (b * y_H + c) - 1)[:, :, None], out=grid_NHW2[..., 0])
    torch.add((2 / height * d * x_W)[:, None], (2 / height * (e * y_H + f) - 1)[:, :, None], out=grid_NHW2[..., 1])
    moved = grid_sample(images.float(), grid_NHW2, mode="bilinear", padding_mode="border", align_corners=False)
    is_outside = (grid_NHW2.abs_() > 1).any(dim=-1)[:, None]
    color_131 = torch.tensor(fill, dtype=torch.float32, device=device)[:, None, None]
    return torch.where(is_outside, color_131, moved).to(torch.uint8)  # Pillow truncates too
