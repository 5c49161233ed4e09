"""Fewer tokens in training steps, for the timm models in which tokens can be dropped: random ones, or those around the center.

Patch dropout is from Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023,
arXiv 2208.07220; dropping whole mask units, for Hiera, from Ryali et al., "Hiera: A Hierarchical Vision Transformer without the
Bells-and-Whistles", ICML 2023, arXiv 2306.00989. Keeping the central crop of the patch grid is from "Budgeted Training for
Vision Transformer", ICLR 2023: 10 x 10 and 12 x 12 of 14 x 14 patches (its Table 6).

Shapes: B batch, N tokens, U mask units, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import timm.models as zoo
import torch
from timm.layers import PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from explorer.elastic.class_table import row_of
from explorer.errors import InvalidInput

Size = tuple[int, int]
"""Height and width, in pixels or patches."""


class KeepTokens(Protocol):
    """Makes the module that keeps some of the tokens of a grid in training mode."""

    def __call__(self, num_prefix_tokens: int = 0, *, with_indices: bool = False) -> nn.Module:
        """The module, for tokens (B, N, D).

        Args:
            num_prefix_tokens: number of tokens before those of the grid; they stay.
            with_indices: whether the module returns the positions of the tokens that it keeps too, int64 (B, N kept).
        """


class TokenDropping:
    """Drops random tokens of a model in training mode.

    Args:
        model: the timm model.
        location: where in the model tokens are dropped.
        grid: rows and columns of the tokens that can be dropped, without class and register tokens.
    """

    policy: Literal["drop", "center"] = "drop"

    def __init__(self, model: nn.Module, location: DropLocation, grid: Size) -> None:
        self._model, self._location, self._grid = model, location, grid
        self._tokens = math.prod(grid)
        parent, _, self._name = location.attribute.rpartition(".")
        self._owner = model.get_submodule(parent)
        self._original: Any = getattr(self._owner, self._name)

    @property
    def tokens(self) -> int:
        """Number of tokens that can be dropped."""
        return self._tokens

    @property
    def smallest(self) -> float:
        """The smallest rate possible: one token."""
        return 1 / self._tokens

    def realise(self, rate: float) -> float:
        """The rate of the number of tokens nearest to a requested rate.

        Raises:
            InvalidInput: if no token would be left.
        """
        return self._kept(rate) / self._tokens

    def set(self, rate: float) -> None:
        """Drop tokens from the next training step on; rate 1 restores the original model.

        Raises:
            InvalidInput: if no token would be left.
        """
        owner, name = self._owner, self._name
        if self._kept(rate) < self._tokens:
            dropout = self._location.dropout(self._model, self._original, self._keep(rate))
            setattr(owner, name, dropout.train(self._model.training))
        elif getattr(owner, name) is not self._original:
            if self._original is None:
                delattr(owner, name)  # so that it is a plain attribute again, not a registered module
            setattr(owner, name, self._original)

    def _kept(self, rate: float) -> int:
        """Number of tokens at a rate."""
        kept = math.floor(rate * self._tokens + 0.5)
        if kept < 1:
            smallest = f"{0.5 / self._tokens:.3g}"
            allowed = f"leaves none of the {self._tokens} tokens; must be at least {smallest}"
            raise InvalidInput("rates.tokens", rate, allowed)
        return kept

    def _keep(self, rate: float) -> KeepTokens:
        # timm keeps int(tokens * (1 - prob)): half a token more keeps rounding errors from changing that.
        prob = 1 - (self._kept(rate) + 0.5) / self._tokens

        def keep(num_prefix_tokens: int = 0, *, with_indices: bool = False) -> nn.Module:
            kind = PatchDropoutWithIndices if with_indices else PatchDropout
            return kind(prob, num_prefix_tokens=num_prefix_tokens)

        return keep


class CentralCropping(TokenDropping):
    """Drops the tokens around the central crop of a model's patch grid in training mode: the same ones in every step.

    Both sides of the grid shrink by the square root of the rate, rounded to the nearest integer: at .5, 10 x 10 of 14 x 14
    patches are kept, at .75 12 x 12. If the margin is odd, one row or column more is dropped at the lower or right edge.
    """

    policy = "center"

    @property
    def smallest(self) -> float:
        """The smallest rate possible: one row or column, or one token of a square grid."""
        return self.realise((0.5 / min(self._grid)) ** 2 * (1 + 1e-9))

    def _kept(self, rate: float) -> int:
        return math.prod(self._sides(rate))

    def _sides(self, rate: float) -> Size:
        """Rows and columns at a rate."""
        height, width = (math.floor(math.sqrt(rate) * side + 0.5) for side in self._grid)
        if not height or not width:
            rows, columns = self._grid
            smallest = f"{(0.5 / min(self._grid)) ** 2:.3g}"
            allowed = f"leaves none of the {rows} rows or {columns} columns of tokens; must be at least {smallest}"
            raise InvalidInput("rates.tokens", rate, allowed)
        return height, width

    def _keep(self, rate: float) -> KeepTokens:
        sides = self._sides(rate)

        def keep(num_prefix_tokens: int = 0, *, with_indices: bool = False) -> nn.Module:
            return CentralTokens(self._grid, sides, num_prefix_tokens=num_prefix_tokens, with_indices=with_indices)

        return keep


class CentralTokens(nn.Module):
    """Keeps the central rows and columns of a grid of tokens in training mode.

    Args:
        grid: rows and columns of the grid, whose tokens are in row-major order.
        kept: rows and columns to keep.
        num_prefix_tokens: number of tokens before those of the grid; they stay.
        with_indices: whether the positions of the tokens that are kept are returned too, as `PatchDropoutWithIndices` does.
    """

    def __init__(self, grid: Size, kept: Size, *, num_prefix_tokens: int = 0, with_indices: bool = False) -> None:
        super().__init__()
        self.grid, self.kept = grid, kept
        self.num_prefix_tokens, self.with_indices = num_prefix_tokens, with_indices

    def forward(self, x_BND: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """The tokens that are kept, (B, N kept, D), and their positions in the grid, int64 (B, N kept), if wanted.

        Raises:
            InvalidInput: when the tokens are those of images of another size.
        """
        if not self.training:
            return (x_BND, None) if self.with_indices else x_BND
        prefix, patches = x_BND[:, : self.num_prefix_tokens], x_BND[:, self.num_prefix_tokens :]
        if patches.shape[1] != math.prod(self.grid):
            reason = (
                f"are not the {self.grid[0]} x {self.grid[1]} of full images, whose center is kept: give the size of full "
                "images, to StagedTraining as image_shape"
            )
            raise InvalidInput("images", f"{patches.shape[1]} patches", reason)
        kept_BND = torch.cat((prefix, self._crop(patches)), dim=1) if self.num_prefix_tokens else self._crop(patches)
        if not self.with_indices:
            return kept_BND
        positions = torch.arange(math.prod(self.grid), device=x_BND.device)
        return kept_BND, self._crop(positions[None]).expand(len(x_BND), -1)

    def _crop(self, x_BN: Tensor) -> Tensor:
        """The central part of (B, N, ...)."""
        top, left = ((side - kept) // 2 for side, kept in zip(self.grid, self.kept, strict=True))
        height, width = self.kept
        return x_BN.unflatten(1, self.grid)[:, top : top + height, left : left + width].flatten(1, 2)


@dataclass(frozen=True)
class DropLocation:
    """Where tokens can be dropped in a model class."""

    attribute: str
    """Path of the part of the model that is replaced while tokens are dropped."""
    dropout: Callable[[Any, Any, KeepTokens], nn.Module]
    """Makes the replacement from the model, its original child, and the function that makes the module that keeps tokens."""
    grid: Callable[[Any, Size], Size]
    """Rows and columns of the tokens that can be dropped, in row-major order, from the model and the image size in pixels; 0
    and 0 if this model cannot drop any."""


class MaskUnitDropout(nn.Module):
    """Drops whole mask units of Hiera, whose tokens have the order (position in the unit, unit) after `Unroll`.

    Args:
        keep: keeps some of the units, given as tokens.
        unit_tokens: tokens in each mask unit.
    """

    def __init__(self, keep: nn.Module, unit_tokens: int) -> None:
        super().__init__()
        self.units = keep
        self.unit_tokens = unit_tokens

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens of the remaining units, (B, N remaining, D)."""
        batch, _, width = x_BND.shape
        x_BU = x_BND.view(batch, self.unit_tokens, -1, width).transpose(1, 2).flatten(2)
        x_BU = self.units(x_BU)
        return x_BU.view(batch, -1, self.unit_tokens, width).transpose(1, 2).flatten(1, 2)


def _prefix(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0))


def _embedded_patches(model: Any, image_size: Size) -> Size:
    embed = model.patch_embed
    rows, columns = embed.grid_size if tuple(embed.img_size) == image_size else embed.dynamic_feat_size(image_size)
    return int(rows), int(columns)


def _naflex_patches(model: Any, image_size: Size) -> Size:
    # With mixed rotary positions, timm does not select the frequencies of the remaining tokens.
    rows, columns = (0, 0) if model.rope_is_mixed else model.embeds.dynamic_feat_size(image_size)
    return rows, columns


def _mask_units(model: Any, _: Size) -> Size:
    rows, columns = model.mask_spatial_shape
    return rows, columns


def _torchvision_patches(model: Any, image_size: Size) -> Size:
    rows, columns = (side // model.patch_size for side in image_size)
    return rows, columns


DROP_LOCATIONS: dict[type[nn.Module], DropLocation] = {
    zoo.VisionTransformer: DropLocation("patch_drop", lambda model, _, keep: keep(_prefix(model)), _embedded_patches),
    # These select the rotary positions of the remaining tokens.
    zoo.Eva: DropLocation("patch_drop", lambda model, _, keep: keep(_prefix(model), with_indices=True), _embedded_patches),
    zoo.NaFlexVit: DropLocation("patch_drop", lambda model, _, keep: keep(_prefix(model), with_indices=True), _naflex_patches),
    # The class token is added later.
    zoo.Cait: DropLocation("pos_drop", lambda _, pos_drop, keep: nn.Sequential(pos_drop, keep()), _embedded_patches),
    zoo.Hiera: DropLocation(
        "unroll",
        lambda model, unroll, keep: nn.Sequential(unroll, MaskUnitDropout(keep(), model.mu_size)),
        _mask_units,
    ),
    TorchvisionViT: DropLocation(
        "encoder.dropout", lambda _, dropout, keep: nn.Sequential(dropout, keep(1)), _torchvision_patches
    ),
}
"""Model classes in which tokens can be dropped, with their subclasses; `register_model` adds classes.

SAM has a `patch_drop` too, but its windows need the whole grid.
"""


def token_dropping(model: nn.Module, image_size: Size) -> TokenDropping | str:
    """How random tokens of the model can be dropped, or why they cannot, as a sentence without its end."""
    return _dropping(TokenDropping, model, image_size)


def central_cropping(model: nn.Module, image_size: Size) -> TokenDropping | str:
    """How the tokens around the center can be dropped, or why they cannot, as a sentence without its end."""
    return _dropping(CentralCropping, model, image_size)


def _dropping(kind: type[TokenDropping], model: nn.Module, image_size: Size) -> TokenDropping | str:
    location = row_of(DROP_LOCATIONS, model)
    grid = location.grid(model, image_size) if location else (0, 0)
    if location and math.prod(grid) > 1:
        return kind(model, location, grid)
    return f"{type(model).__name__} has no place to drop tokens"
