"""Whether a loop trains the model as its plan counts it: on images of that size, and through the hooks that make them smaller.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.errors import InvalidInput

Shape = tuple[int, ...]
"""Channels, height and width of images."""


class TrainingPasses:
    """Notes the forward passes of a model in training mode, by hooks, until it is removed.

    The hook on the model only notes, without a graph break in compiled models; `check` judges between two steps.

    Args:
        model: the timm model.
        optimizers: its optimizers.
        image_shape_CHW: shape of full images.
        assumed: whether this shape was not given but read from the model.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], image_shape_CHW: Shape, *, assumed: bool) -> None:
        self._model, self._kind = model, type(model).__name__
        self._full_shape, self._assumed = image_shape_CHW, assumed
        self._is_confirmed = False
        self._updated, self._updated_in_training = False, True
        self._passed = False
        self._had_full_images = False
        self._other_shape: Shape | None = None
        self._handles = [model.register_forward_pre_hook(self._note_pass, with_kwargs=True)]
        self._handles += [each.register_step_post_hook(self._note_update) for each in optimizers]

    def check(self, image_size: tuple[int, int] | None, *, drops_tokens: bool = False) -> None:
        """Check the passes since the last call, if the model was updated.

        Args:
            image_size: height and width to which the model made images smaller; `None` if it did not.
            drops_tokens: whether the model dropped tokens.

        Raises:
            InvalidInput: when it did not, because the loop does not call the model itself, or the model was in evaluation mode;
                when the first images do not have the shape that the model was assumed to be for.
        """
        passed, updated, had_full_images, other = self._passed, self._updated, self._had_full_images, self._other_shape
        self._passed, self._updated, self._had_full_images, self._other_shape = False, False, False, None
        if not updated:
            return
        if drops_tokens and not self._updated_in_training:
            reason = (
                "was updated in evaluation mode, in which no tokens are dropped as the stage says: call model.train() before "
                "the training steps; modules that are to stay as in evaluation can be set to it one by one"
            )
            raise InvalidInput("model", self._kind, reason)
        if image_size is not None and not passed:
            reason = (
                "was trained without a forward pass in training mode, so its images were not made smaller as the stage says: "
                "call the model itself in training mode, as model(images), not forward_features or another of its methods"
            )
            raise InvalidInput("model", self._kind, reason)
        if not self._is_confirmed and other is not None and not had_full_images and other[1:] != image_size:
            self._refuse(other)
        self._is_confirmed = self._is_confirmed or passed

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _refuse(self, shape: Shape) -> None:
        """Refuse images of another shape if none was given; else warn, because sizes may vary on purpose."""
        if self._assumed:
            reason = (
                f"is the size that the model is published for, but this training has images {shape}, and the plan counts the "
                f"cost of full images: pass image_shape={shape}"
            )
            raise InvalidInput("image_shape", self._full_shape, reason)
        text = f"the plan counts images of the shape {self._full_shape}, as image_shape says, but training began with {shape}"
        warnings.warn(text, stacklevel=4)

    def _note_pass(self, model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> None:
        if not model.training:
            return
        self._passed = True
        for value in (*arguments, *(keywords or {}).values()):  # none if an earlier hook of this pass has removed this one
            if isinstance(value, Tensor) and value.ndim == 4:
                shape = tuple(value.shape[1:])
                if shape == self._full_shape:
                    self._had_full_images = True
                else:
                    self._other_shape = shape
                return

    def _note_update(self, *_: Any) -> None:
        self._updated, self._updated_in_training = True, self._model.training
