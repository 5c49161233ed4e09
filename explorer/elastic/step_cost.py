"""Cost of a training step at given activation rates, counted on a copy of the model on the meta device."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from explorer.cost import StepFlops, count_parts, count_passes
from explorer.elastic.model import ElasticModel
from explorer.errors import InvalidInput
from explorer.segment import StepCost
from explorer.spec.rates import Rates
from explorer.spec.staging import Staging

COUNTED_IMAGES = 2
"""Batch size that is counted: BatchNorm needs more than one image."""


class UnsuitableImagesError(ValueError):
    """The model cannot process images of the given shape; the message says why."""


@dataclass(frozen=True)
class StepSize:
    """What the time of a training step depends on, at some rates."""

    depth: float
    """Realised fraction of the blocks."""
    tokens: float
    """Realised fraction of the patch tokens."""
    attention_flops: int
    """FLOPs of attention per image, of the forward and backward pass."""
    mlp_flops: int
    """FLOPs of MLPs per image."""
    other_flops: int
    """All other FLOPs per image."""
    parameters: int
    """Number of active parameters."""


class StepCounter:
    """Counts the FLOPs of a training step at any rates. Counts are cached.

    Args:
        model: a timm model on the meta device, in training mode. The counter resizes it.
        staging: how reduced models are derived from it.
        image_shape_CHW: channels, height and width of full images.

    Raises:
        InvalidInput: when nothing in the model can be resized, or it does not allow this staging.
    """

    def __init__(self, model: nn.Module, staging: Staging, image_shape_CHW: tuple[int, int, int]) -> None:
        self.elastic = ElasticModel(model, staging, image_size=image_shape_CHW[1:])
        self._shape = image_shape_CHW
        self._sizes: dict[Rates, StepSize] = {}
        self._counted: dict[Rates, tuple[Rates, StepFlops, StepFlops]] = {}
        """Realised rates, and the FLOPs per step and per image, by the requested rates."""
        self._has_work_per_step: bool | None = None
        """Whether some work does not depend on the images; `None` until it was counted."""

    @classmethod
    def of_copy(cls, model: nn.Module, staging: Staging, image_shape_CHW: tuple[int, int, int]) -> StepCounter:
        """A counter for a model with weights, which is left as it is."""
        return cls(copy.deepcopy(model).to("meta").train(), staging, image_shape_CHW)

    def _counts(self, rates: Rates) -> tuple[Rates, StepFlops, StepFlops]:
        """The realised rates, and the FLOPs that a step costs with any number of images, and for each of them.

        What does not depend on the images is computed once in a step: position biases by a network (Swin V2).

        Raises:
            InvalidInput: when the model cannot have these rates, or does not run at them.
            UnsuitableImagesError: when the model cannot process such images.
        """
        if rates not in self._counted:
            realised = self.elastic.set_rates(rates)
            try:
                few = count_passes(self.elastic.model, (COUNTED_IMAGES, *self._shape))
                of_images = list(few)
                if self._has_work_per_step is not False:  # most models have none, at any rates, and are counted once
                    more = count_passes(self.elastic.model, (2 * COUNTED_IMAGES, *self._shape))
                    of_images = [larger - smaller for smaller, larger in zip(few, more, strict=True)]
                    self._has_work_per_step = of_images != list(few)
            except (RuntimeError, AssertionError, ValueError) as error:
                raise self._reason(rates, str(error)) from None
            per_step = StepFlops(*(count - images for count, images in zip(few, of_images, strict=True)))
            self._counted[rates] = realised, per_step, StepFlops(*(count // COUNTED_IMAGES for count in of_images))
        return self._counted[rates]

    def _reason(self, rates: Rates, error: str) -> ValueError:
        """What is wrong if the model does not run at some rates: the images, or how it was resized."""
        if rates.full or rates.reduces("tokens"):
            return UnsuitableImagesError(error)
        self.elastic.set_rates(Rates())
        try:
            count_passes(self.elastic.model, (COUNTED_IMAGES, *self._shape))
        except (RuntimeError, AssertionError, ValueError) as error_at_full_size:
            return UnsuitableImagesError(str(error_at_full_size))
        name = type(self.elastic.model).__name__
        reason = (
            f"runs at full size, but not at {rates}: {error}; one of its modules differs from its row in the table of layouts"
        )
        return InvalidInput("model", name, reason)

    def step_size(self, rates: Rates) -> StepSize:
        """What the time of a step depends on; raises as `step_cost`."""
        if rates not in self._sizes:
            realised, *_ = self._counts(rates)
            self.elastic.set_rates(rates)
            model = self.elastic.model
            parts = count_parts(model, (COUNTED_IMAGES, *self._shape))
            attention, mlp, other = (count // COUNTED_IMAGES for count in parts)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            depth, tokens = (float(getattr(realised, axis)) for axis in ("depth", "tokens"))
            self._sizes[rates] = StepSize(depth, tokens, attention, mlp, other, parameters)
        return self._sizes[rates]

    def step_cost(self, rates: Rates, batch_size: int) -> StepCost:
        """Cost of a training step with a batch of `batch_size` images.

        Raises:
            InvalidInput: when the model cannot have these rates, or does not run at them.
            UnsuitableImagesError: when the model cannot process such images.
        """
        realised, per_step, per_image = self._counts(rates)
        total, macs = (of_step + batch_size * of_image for of_step, of_image in zip(per_step, per_image, strict=True))
        return StepCost(realised, total, forward_macs=macs)
