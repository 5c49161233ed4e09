"""The random numbers of augmentation, drawn by timm's own transforms without changing an image.

The tensor backend draws with the same code, in the same order and from the same seeds as the transforms of the PIL backend, so
that an image gets the same crop, flips, operations and erased boxes from both; only the arithmetic on its pixels differs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.auto_augment import AutoAugment, RandAugment
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation, ResizeKeepRatio
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.v2 import functional

from explorer.data.augmentation import policy_operations, training_transform
from explorer.errors import InvalidInput

Size = tuple[int, int]
"""Height and width, in pixels."""
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel")
"""Operations of policies that move pixels: timm draws their interpolation."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "random")
"""Interpolations of crops that torchvision has for tensors."""


class Operation(NamedTuple):
    """A change of colors or geometry, by timm's name."""

    name: str
    arguments: tuple[float, ...]


class Erasure(NamedTuple):
    """An erased box, in pixels of the crop."""

    top: int
    left: int
    height: int
    width: int
    value: NDArray[Any]
    """Normalized values, (3, 1, 1) or (3, height, width)."""


class Drawn(NamedTuple):
    """What is done to one image."""

    crop: tuple[int, int, int, int]
    """Top, left, height and width of the crop, in pixels of the image."""
    interpolation: transforms.InterpolationMode
    """How the crop is resized."""
    flipped: bool
    """Mirrored left to right."""
    upside_down: bool
    """Mirrored top to bottom."""
    operations: tuple[Operation, ...]
    """Changes in order."""
    erasures: tuple[Erasure, ...]
    """Boxes erased after normalization."""


class Drawer:
    """Draws what is done to training images, from the global random generators, as timm's transform does.

    Args:
        size: height and width of the result.
        arguments: keyword arguments of `timm.data.create_transform`.

    Raises:
        InvalidInput: when the transform has a part that the tensor backend does not have.
    """

    def __init__(self, size: Size, arguments: dict[str, Any]) -> None:
        self.size = size
        # Given a pair, `no_aug` does not keep the ratio of the sides.
        transform: Any = training_transform(size[0] if size[0] == size[1] else size, arguments)
        self.parts: list[Any] = list(transform.transforms)
        self.fill = (0, 0, 0)
        """What is outside the image in geometric operations: the mean color."""
        self.is_random = not isinstance(self.parts[0], transforms.Resize)
        """False for `no_aug`, whose parts are the same for every image."""
        self._drawing_parts = [part for part in self.parts if not _is_conversion(part)]
        _check_interpolation(arguments.get("interpolation", "bilinear"))
        if self.is_random:
            for part in self.parts:
                _check_part(part)
            for operation in policy_operations(transform):
                self.fill = operation.kwargs["fillcolor"]
                operation.aug_fn = partial(_recorded, operation.name)
            for part in self.parts:
                if isinstance(part, RandAugment):  # NumPy would make an array of the list for each image
                    part.ops = np.array(part.ops, dtype=object)

    def draw(self, height: int, width: int) -> Drawn:
        """Draw what is done to an image of a size, as many numbers as timm's transform would draw for it."""
        top = left = 0
        interpolation = transforms.InterpolationMode.BILINEAR
        mirrored = {transforms.RandomHorizontalFlip: False, transforms.RandomVerticalFlip: False}
        operations: list[Operation] = []
        erasures: list[Erasure] = []
        crop = (top, left, height, width)
        for part in self._drawing_parts:
            if isinstance(part, RandomResizedCropAndInterpolation):
                crop = part.get_params(_ONE.expand(3, height, width), part.scale, part.ratio)
                chosen: Any = part.interpolation
                interpolation = _interpolation(random.choice(chosen) if isinstance(chosen, tuple | list) else chosen)
            elif type(part) in mirrored:
                mirrored[type(part)] = bool(torch.rand(1) < part.p)
            elif isinstance(part, RandAugment | AutoAugment):
                operations = part(operations)
            elif isinstance(part, RandomErasing):
                part(_ErasedBoxes(self.size, erasures))
            else:
                operations += _drawn_colors(part)
        flipped, upside_down = mirrored.values()
        return Drawn(crop, interpolation, flipped, upside_down, tuple(operations), tuple(erasures))


def drawer(size: Size, arguments: dict[str, Any]) -> Drawer:
    """A `Drawer`; the last few are kept."""
    return _drawer(size, json.dumps(arguments, sort_keys=True, default=list))


@lru_cache(maxsize=16)
def _drawer(size: Size, arguments_json: str) -> Drawer:
    return Drawer(size, json.loads(arguments_json))


def _drawn_colors(part: Any) -> list[Operation]:
    """The operations of the parts of a transform that change colors; none for the others."""
    if isinstance(part, transforms.RandomApply):
        return [] if part.p < torch.rand(1) else list(chain.from_iterable(map(_drawn_colors, part.transforms)))
    if isinstance(part, transforms.ColorJitter):
        order, *factors = part.get_params(part.brightness, part.contrast, part.saturation, part.hue)
        names = ("Brightness", "Contrast", "Color", "Hue")
        return [Operation(names[n], (float(factors[n]),)) for n in map(int, order) if factors[n] is not None]
    if isinstance(part, transforms.RandomGrayscale):
        return [Operation("Color", (0.0,))] if torch.rand(1) < part.p else []
    if isinstance(part, transforms.GaussianBlur):
        return [Operation("Blur", (part.kernel_size[0], part.get_params(*part.sigma)))]
    return []


def _recorded(name: str, operations: list[Operation], *arguments: float, resample: Any = None, **_: Any) -> list[Operation]:
    """Stands for an operation of a policy: notes it, and draws what the operation would draw."""
    if name in GEOMETRIC and isinstance(resample, tuple | list):
        random.choice(resample)
    if name == "GaussianBlurRand":
        name, arguments = "GaussianBlur", (random.uniform(0.1, 2.0 * arguments[0]),)
    return [*operations, Operation(name, arguments)]


class _ErasedBoxes:
    """Stands for an image that timm erases boxes of, and notes them."""

    dtype = torch.float32

    def __init__(self, size: Size, erasures: list[Erasure]) -> None:
        self._size, self._erasures = size, erasures

    def size(self) -> tuple[int, int, int]:
        return 3, *self._size

    def __setitem__(self, box: tuple[slice, slice, slice], value: Tensor) -> None:
        _, rows, columns = box
        top, left = rows.start, columns.start
        self._erasures.append(Erasure(top, left, rows.stop - top, columns.stop - left, value.numpy()))


def _interpolation(chosen: Any) -> transforms.InterpolationMode:
    """torchvision's name of an interpolation, which timm draws as a number of Pillow."""
    if isinstance(chosen, transforms.InterpolationMode):
        return chosen
    return transforms.InterpolationMode(chosen.name.lower())


def _check_interpolation(name: str) -> None:
    if name not in INTERPOLATIONS:
        allowed = f"does not interpolate by {name}; must be pil, or the interpolation one of {', '.join(INTERPOLATIONS)}"
        raise InvalidInput("recipe.augmentation.backend", "tensor", allowed)


def _check_part(part: Any) -> None:
    kinds = (
        RandomResizedCropAndInterpolation,
        RandAugment,
        AutoAugment,
        RandomErasing,
        transforms.RandomHorizontalFlip,
        transforms.RandomVerticalFlip,
        transforms.ColorJitter,
        transforms.RandomGrayscale,
        transforms.RandomApply,
    )
    if not isinstance(part, kinds) and not _is_conversion(part):
        raise InvalidInput("recipe.augmentation.backend", "tensor", f"has no {type(part).__name__}; must be pil")


def check_drawing(transform: dict[str, Any], image_size: int, interpolation: str | None) -> None:
    """Check that the tensor backend supports every part of `augmentation.transform`.

    Args:
        transform: arguments of `timm.data.create_transform`.
        image_size: side of the images, in pixels.
        interpolation: that of `data.preprocessing`, which the transform may replace.

    Raises:
        InvalidInput: naming the part that is missing.
    """
    given = {} if interpolation is None else {"interpolation": interpolation}
    drawer((image_size, image_size), {**given, **transform})


_ONE = torch.empty(())
"""Stands for an image, of which timm asks for the size alone."""


def _is_conversion(part: Any) -> bool:
    """Whether a part makes a normalized tensor of an image."""
    return isinstance(part, transforms.Normalize) or type(part).__name__ == "MaybeToTensor"


Fit = Callable[[Tensor], Tensor]
"""Resizes and crops an image uint8 (3, H, W) to the size that the model sees."""


def fitted(parts: list[Any]) -> Fit:
    """The parts of a transform without random numbers that come before the image becomes a normalized tensor."""
    changes = transforms.Compose([part for part in parts if not _is_conversion(part)])
    if not any(isinstance(part, ResizeKeepRatio) for part in parts):
        return changes
    # timm's border of the mean color is for Pillow's images alone.
    return lambda image: functional.pil_to_tensor(changes(functional.to_pil_image(image.cpu()))).to(image.device)
