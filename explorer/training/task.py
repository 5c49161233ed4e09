"""The task: model, data and recipe; everything about a training run but its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from explorer.data import Batch, DataSource, TrainStream, open_data
from explorer.data.augmentation import check_transform, mix_batches
from explorer.data.preprocessing import preprocessing_for
from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.elastic.step_cost import StepCounter, UnsuitableImagesError
from explorer.errors import InvalidInput
from explorer.segment import StepCost
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.model import ModelSpec
from explorer.spec.model_input import ModelInput
from explorer.spec.rates import Rates
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training.distributed import SINGLE_PROCESS, Processes

FUSED = ("adam", "adamw")
"""Optimizers whose torch implementation has a fused kernel on both CPU and GPU."""


class Task:
    """A task with its data opened: what `compile_plan` and `train` take.

    Args:
        spec: the description.

    Raises:
        InvalidInput: when the data cannot be opened or has fewer images than a batch, or the recipe does not fit the data.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        _check_names(spec)
        pixels = preprocessing_for(spec.data.preprocessing, spec.model.name)
        self.data: DataSource = open_data(spec.data.model_copy(update={"preprocessing": pixels}))
        recipe = spec.recipe
        if recipe.batch_size > self.data.train_images:
            raise InvalidInput(
                "recipe.batch_size", recipe.batch_size, f"must be at most the {self.data.train_images} training images"
            )
        if recipe.batch_size % recipe.accumulation:
            raise InvalidInput(
                "recipe.accumulation", recipe.accumulation, f"must divide the batch of {recipe.batch_size} images equally"
            )
        for name in ("shift", "flip", "transform"):
            given = getattr(recipe.augmentation, name)
            if given and name not in self.data.supported_augmentations:
                supported = ", ".join(self.data.supported_augmentations) or "nothing"
                reason = f"does not apply to {spec.data.name!r}, whose images are changed by {supported}"
                raise InvalidInput(f"recipe.augmentation.{name}", given, reason)
        if recipe.augmentation.mixes and recipe.batch_size % 2:
            raise InvalidInput("recipe.batch_size", recipe.batch_size, "must be even if images are mixed (mixup, cutmix)")
        self._architecture = _Architecture(
            model=spec.model,
            channels=self.data.channels,
            classes=self.data.classes,
            image_size=self.data.image_size,
            staging=spec.staging,
        )

    @property
    def train_images(self) -> int:
        """Images in one epoch."""
        return self.data.train_images

    @property
    def epochs(self) -> float:
        """Length of full training in epochs."""
        return self.spec.recipe.epochs

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return self.spec.recipe.batch_size

    @property
    def lr_schedule(self) -> LearningRateSchedule:
        """Learning-rate schedule over budget time."""
        return self.spec.recipe.lr_schedule

    def amp(self, device: torch.device) -> bool:
        """Whether training on a device uses bf16."""
        wanted = self.spec.recipe.amp
        return wanted == "bf16" or (wanted == "auto" and device.type == "cuda")

    def train_batches(
        self, seed: int, first_step: int, steps: int, device: torch.device, processes: Processes = SINGLE_PROCESS
    ) -> Iterator[Batch]:
        """This process's part of some steps' batches, augmented by the recipe; see `DataSource.train_batches`."""
        stream = TrainStream(
            seed=seed,
            first_step=first_step,
            steps=steps,
            batch_size=self.batch_size,
            augmentation=self.spec.recipe.augmentation,
            device=device,
            local_slice=processes.local_slice(self.batch_size),
        )
        return mix_batches(self.data.train_batches(stream), stream, self.data.classes)

    @property
    def model_input(self) -> ModelInput:
        """What the trained model must be given, and what its outputs mean."""
        return ModelInput(
            class_names=self.data.inventory.class_names,
            image_size=self.data.image_size,
            channels=self.data.channels,
            preprocessing=getattr(self.data, "preprocessing", None),
        )

    def build_model(self) -> nn.Module:
        """The timm model at full size, initialized from torch's current random state.

        Raises:
            InvalidInput: when timm does not know the model or its options.
        """
        return _create(self.spec.model, self.model_arguments(), self.spec.model.pretrained)

    def model_arguments(self) -> dict[str, Any]:
        """Keyword arguments with which plain `timm.create_model` builds the same architecture."""
        return dict(_counted_model(self._architecture).arguments)

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """timm's optimizer for the recipe, fused if torch has a fused implementation."""
        recipe = self.spec.recipe
        fused: dict[str, Any] = {"fused": True} if recipe.optimizer in FUSED else {}
        return create_optimizer_v2(model, recipe.optimizer, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **fused)

    def step_cost(self, rates: Rates) -> StepCost:
        """Counted FLOPs of one training step at the requested rates, and the realised rates. Cached in the process.

        Raises:
            InvalidInput: when the model cannot have these rates, or cannot process images of this size.
        """
        try:
            return _counted_model(self._architecture).counter.step_cost(rates, self.batch_size)
        except UnsuitableImagesError as error:
            reason = f"{self.spec.model.name} with these options cannot process such images: {error}"
            raise InvalidInput("data.image_size", self.data.image_size, reason) from None

    @property
    def warning(self) -> str | None:
        """A warning to print before a run: which attention or MLP modules of the model are not resized; else `None`."""
        unknown = _counted_model(self._architecture).counter.elastic.unknown
        if not unknown:
            return None
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return f"{unknown[0]}{others} will stay at full size: the table of layouts has no row for them; see CONTRIBUTING.md"

    def check(self) -> None:
        """Check that the model can be built and that the optimizer's state can be resized, without training.

        Raises:
            InvalidInput: naming the wrong setting.
        """
        self.step_cost(Rates())
        layer = nn.Linear(256, 256)  # large enough for optimizers that factor the state of large matrices
        optimizer = self.build_optimizer(layer)
        layer(torch.ones(1, 256)).sum().backward()
        optimizer.step()
        if obstacle := resizing_obstacle(optimizer):
            reason = f"cannot be used with stages: {obstacle}; use adamw"
            raise InvalidInput("recipe.optimizer", self.spec.recipe.optimizer, reason)


def _check_names(spec: TaskSpec) -> None:
    """Check that timm has the model and the optimizer, and accepts the transform.

    Raises:
        InvalidInput: naming the first setting that timm does not accept.
    """
    if not timm.is_model(spec.model.name):
        near = timm.list_models(f"*{spec.model.name.split('_')[0]}*")[:3]
        hint = f", for example {', '.join(near)}" if near else ""
        raise InvalidInput("model.name", spec.model.name, f"timm {timm.__version__} has no such model{hint}")
    if spec.recipe.optimizer not in list_optimizers():
        allowed = "unknown optimizer; must be one of timm.optim.list_optimizers()"
        raise InvalidInput("recipe.optimizer", spec.recipe.optimizer, allowed)
    check_transform(spec.recipe.augmentation.transform)


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    """Everything that the cost of a step depends on besides the rates and the batch size."""

    model: ModelSpec
    channels: int
    classes: int
    image_size: int
    staging: Staging

    def __hash__(self) -> int:  # a model's options may be lists
        return hash((self.model.model_dump_json(), self.channels, self.classes, self.image_size, self.staging))


@dataclass(frozen=True)
class _CountedModel:
    """A model on the meta device."""

    counter: StepCounter
    arguments: dict[str, Any]
    """Keyword arguments of `timm.create_model` that the model was built with."""


@lru_cache(maxsize=64)
def _counted_model(architecture: _Architecture) -> _CountedModel:
    """Build the model on the meta device, with the arguments of `timm.create_model` that it accepts."""
    model, size = architecture.model, architecture.image_size
    required = {"model_name": model.name, "in_chans": architecture.channels, "num_classes": architecture.classes}
    # The task's JSON form, in which lists stand for tuples, is what result.json and other processes build the model from.
    options = model.model_dump(mode="json")["options"]
    arguments = {"img_size": size, **required, **options}
    with torch.device("meta"):
        try:
            built = _create(model, arguments)
        except InvalidInput as error:
            if "'img_size'" not in error.allowed:
                raise
            # Many pyramids take images of any size, and have no such argument.
            arguments = {**required, **options}
            built = _create(model, arguments)
        return _CountedModel(StepCounter(built, architecture.staging, (architecture.channels, size, size)), arguments)


def _create(model: ModelSpec, arguments: dict[str, Any], pretrained: bool = False) -> nn.Module:
    try:
        return timm.create_model(pretrained=pretrained, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InvalidInput("model.options", model.options, f"timm refuses to build {model.name}: {error}") from None
