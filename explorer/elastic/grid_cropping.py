"""Fewer tokens of pyramids by the central crop of their patch grid during training.

The policy of "Budgeted Training for Vision Transformer" (ICLR 2023): in its Table 6, 40 x 40 and 48 x 48 of 56 x 56 patches are
kept, and the maps of the later levels and the windows of Swin shrink with them. All patches are embedded, then cropped: in this
order, the costs are those of the table.

Shapes: B batch, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import timm.models as zoo
from torch import Tensor, nn

from explorer.elastic.class_table import row_of
from explorer.elastic.image_resizing import ImageResizing, resizing_support
from explorer.elastic.token_dropping import Size

CHANNELS_LAST: dict[type[nn.Module], bool] = {
    zoo.SwinTransformer: True,
    zoo.SwinTransformerV2: True,
    zoo.SwinTransformerV2Cr: False,
    zoo.PyramidVisionTransformerV2: True,
}
"""Model classes whose `patch_embed` returns a grid that can be cropped, and whether its channels are the last dimension."""


class GridCropping(ImageResizing):
    """Keeps the central crop of a pyramid's patch grid in training mode: the same tokens in every step.

    Sizes are those that `ImageResizing` would have. If the margin is odd, one row or column more is dropped at the lower or
    right edge.
    """

    policy = "center"

    def _begin(self) -> Iterator[Callable[[], None]]:
        yield from self._follow_mode()
        channels_last = bool(row_of(CHANNELS_LAST, self._model))
        hook = partial(_crop, self._model, self._present_size, self._full_size, channels_last)
        embedding: Any = self._model.patch_embed
        yield embedding.register_forward_hook(hook).remove


def _crop(
    model: nn.Module, present: list[int], full: Size, channels_last: bool, _embedding: nn.Module, _images: object, grid: Tensor
) -> Tensor | None:
    """Forward hook that keeps the center of a grid, BHWC or BCHW, of the images' present share of their full size."""
    first = 1 if channels_last else 2
    if not model.training:
        return None
    for dim, small, whole in zip((first, first + 1), present, full, strict=True):
        size = grid.shape[dim]
        kept = size * small // whole
        grid = grid.narrow(dim, (size - kept) // 2, kept)
    return grid


def grid_cropping(model: nn.Module, image_size: Size) -> GridCropping | str:
    """How the patch grid of a pyramid can be cropped, or why it cannot, as a sentence without its end."""
    support = resizing_support(model)
    if support is None or not isinstance(model, tuple(CHANNELS_LAST)):
        return f"{type(model).__name__} has no patch grid that can be cropped"
    cropping = GridCropping(model, support, image_size)
    return cropping.obstacle or cropping
