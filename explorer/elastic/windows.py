"""Windows of Swin transformers that shrink with the image, so that a stage on smaller images pays for no padding.

In "Budgeted Training for Vision Transformer" (ICLR 2023, Table 6), grids of 40, 48 and 56 tokens have windows of 5, 6 and 7.

No parameter changes. The offsets between the tokens of a smaller window are a part of those of the full one, so the position
biases of a smaller window are entries of the full table, or values of the same network at the same offsets: what a stage learns
about an offset is valid for the full model, and nothing is interpolated. Offsets that do not occur get no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, lcm
from typing import Any

from timm.models import swin_transformer, swin_transformer_v2, swin_transformer_v2_cr
from timm.models.swin_transformer import get_relative_position_index
from torch import Tensor, nn

from explorer.elastic.token_dropping import Size

Setting = tuple[nn.Module, str, Any]
"""Module, name of its attribute, and value."""

RESOLUTION: dict[type[nn.Module], str] = {
    swin_transformer.SwinTransformerBlock: "input_resolution",
    swin_transformer_v2.SwinTransformerV2Block: "input_resolution",
    swin_transformer_v2_cr.SwinTransformerV2CrBlock: "feat_size",
}
"""Classes of blocks whose windows can shrink, and the attribute that holds the size of their feature map."""


class ShrinkingWindows:
    """The windows of a model, which are smaller in training mode while its images are smaller.

    Args:
        model: the timm model, at full size. It may have no windows.
        image_size: height and width of full images, in pixels.
    """

    def __init__(self, model: nn.Module, image_size: Size) -> None:
        self._blocks = [module for module in model.modules() if type(module) in RESOLUTION]
        self._image_size = image_size
        self._full: list[Setting] = []
        self._small: list[Setting] = []
        self._are_small = False

    def strides(self) -> Size:
        """Numbers of pixels that the height and width of images must be multiples of, so that all windows are whole.

        These are the full height and width if the windows cannot shrink.
        """
        height, width = (lcm(1, *(full // gcd(full, side) for side in sides)) for full, sides in self._sides())
        return height, width

    def largest(self) -> tuple[Size, Size] | None:
        """Window and feature map of the first block, in tokens; `None` if the model has no windows."""
        for block in self._blocks:
            return _size(block, "window_size"), _size(block, RESOLUTION[type(block)])
        return None

    def shrink(self, image_size: Size) -> None:
        """Use windows for images of a smaller size from now on, in training mode."""
        self.restore()
        for block in self._blocks:
            for module, name, value in self._for_size(block, image_size):
                self._full.append((module, name, getattr(module, name)))
                self._small.append((module, name, value))
                setattr(module, name, value)
        self._are_small = True

    def follow_mode(self, training: bool) -> None:
        """To be called before each forward pass: evaluation takes full images, and full windows with them."""
        if self._small and training != self._are_small:
            self._set(self._small if training else self._full)
            self._are_small = training

    def restore(self) -> None:
        """Give the model its original windows again."""
        if self._are_small:
            self._set(self._full)
        self._full, self._small, self._are_small = [], [], False

    def _sides(self) -> Iterator[tuple[int, list[int]]]:
        """For height and width: the side of full images in pixels, and the sides of all windows in tokens."""
        for dim, full in enumerate(self._image_size):
            yield full, [_size(block, "window_size")[dim] for block in self._blocks]

    def _scaled(self, size: Size, image_size: Size) -> Size:
        height, width = (side * small // full for side, small, full in zip(size, image_size, self._image_size, strict=True))
        return height, width

    def _for_size(self, block: Any, image_size: Size) -> Iterator[Setting]:
        """The attributes of a block and its attention for smaller images, in an order in which they can be set."""
        resolution, attention = RESOLUTION[type(block)], block.attn
        full_window = _size(block, "window_size")
        window = self._scaled(full_window, image_size)
        shift = tuple(side // 2 if shifted else 0 for side, shifted in zip(window, block.shift_size, strict=True))
        yield block, resolution, self._scaled(_size(block, resolution), image_size)
        yield block, "window_size", window
        yield block, "shift_size", shift
        yield block, "window_area", window[0] * window[1]
        if not block.dynamic_mask:
            yield block, "attn_mask", block.get_attn_mask(device=block.norm1.weight.device, dtype=block.norm1.weight.dtype)
        yield attention, "window_size", window
        if hasattr(attention, "window_area"):
            yield attention, "window_area", window[0] * window[1]
        yield from ((attention, name, value) for name, value in _offsets(attention, full_window, window).items())

    @staticmethod
    def _set(settings: list[Setting]) -> None:
        for module, name, value in settings:
            if isinstance(value, Tensor):  # the model may have been moved or converted since
                parameter = next(module.parameters())
                value = value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)
            setattr(module, name, value)


def _size(module: nn.Module, name: str) -> Size:
    height, width = getattr(module, name)
    return height, width


def _offsets(attention: Any, full: Size, window: Size) -> dict[str, Tensor]:
    """The buffers of an attention module that say which offsets occur in a window of `window` of `full` tokens."""
    if isinstance(attention, swin_transformer_v2.WindowAttention):
        height, width = (slice(whole - part, whole + part - 1) for whole, part in zip(full, window, strict=True))
        table = attention.relative_coords_table  # (1, 2 height - 1, 2 width - 1, 2)
        return {
            "relative_coords_table": table[:, height, width].contiguous(),
            "relative_position_index": get_relative_position_index(*window, device=table.device),
        }
    if isinstance(attention, swin_transformer_v2_cr.WindowMultiHeadAttention):
        area = full[0] * full[1]
        pairs = attention.relative_coordinates_log.unflatten(0, (area, area))
        return {"relative_coordinates_log": _corner(pairs, full, window).flatten(0, 1)}
    # Numbers of entries in the table of the full window.
    return {"relative_position_index": _corner(attention.relative_position_index, full, window)}


def _corner(pairs: Tensor, full: Size, window: Size) -> Tensor:
    """What belongs to pairs of tokens in a corner of the full window: (full area, full area, ...) to (area, area, ...)."""
    height, width = window
    corner = pairs.unflatten(1, full).unflatten(0, full)[:height, :width, :height, :width]
    return corner.flatten(2, 3).flatten(0, 1).contiguous()


def windows_obstacle(windows: ShrinkingWindows, image_size: Size) -> str | None:
    """Why no smaller image has whole windows, as the end of a sentence; `None` if there are such images."""
    largest = windows.largest()
    if largest is None or any(stride < side for stride, side in zip(windows.strides(), image_size, strict=True)):
        return None
    window, grid = ("x".join(map(str, dict.fromkeys(size))) for size in largest)
    return f"its windows of {window} tokens cannot shrink with its grid of {grid}: no smaller image divides into whole windows"
