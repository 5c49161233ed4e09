"""The task: model + data + recipe, everything about a training run but its schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from explorer.cost import count_step_flops
from explorer.data import Batch, DataSource, TrainStream, open_data
from explorer.data.augmentation import check_transform, mix_batches
from explorer.data.preprocessing import preprocessing_for
from explorer.elastic import ElasticModel
from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.errors import InvalidInput
from explorer.plan import StepCost
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.model import ModelSpec
from explorer.spec.rates import Rates
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.training.distributed import SINGLE_PROCESS, Processes

FUSED = ("adam", "adamw")
"""Optimizers whose torch implementation has a fused kernel on both CPU and GPU."""


CostKey = tuple[str, int, int, int, Staging]
"""What the cost of a step depends on besides the rates: the model as JSON, channels, classes, image size, staging."""


class Task:
    """A task whose data is open: what `plan` and `train` take.

    Args:
        spec: the description.

    Raises:
        InvalidInput: when the data cannot be opened or holds fewer images than a batch, or the recipe does not fit it.
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
            raise InvalidInput("recipe.batch_size", recipe.batch_size, "must be even where images are mixed (mixup, cutmix)")

    @property
    def train_images(self) -> int:
        """Images in one epoch."""
        return self.data.train_images

    @property
    def epochs(self) -> float:
        """Length of full training."""
        return self.spec.recipe.epochs

    @property
    def batch_size(self) -> int:
        """Images in one step."""
        return self.spec.recipe.batch_size

    @property
    def lr_schedule(self) -> LearningRateSchedule:
        """The learning rate over budget time."""
        return self.spec.recipe.lr_schedule

    def amp(self, device: torch.device) -> bool:
        """Whether training on a device is in bf16."""
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

    def build_model(self) -> nn.Module:
        """The timm model at full size, initialised from torch's current random state.

        Raises:
            InvalidInput: when timm does not know the model or its options.
        """
        return _create(self.spec.model, self.model_arguments())

    def model_arguments(self) -> dict[str, Any]:
        """Keyword arguments with which plain `timm.create_model` builds the same architecture."""
        return dict(_meta_model(self._cost_key)[1])

    def elastic(self, model: nn.Module, seed: int) -> ElasticModel:
        """The handle that sets the rates of a model from `build_model`, by the task's staging; `seed` of a random subset."""
        return _elastic(model, self.spec.staging, self.data.image_size, seed)

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """timm's optimizer for the recipe, fused where torch offers it."""
        recipe = self.spec.recipe
        fused: dict[str, Any] = {"fused": True} if recipe.optimizer in FUSED else {}
        return create_optimizer_v2(model, recipe.optimizer, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **fused)

    @cached_property
    def _cost_key(self) -> CostKey:
        data, spec = self.data, self.spec
        return spec.model.model_dump_json(), data.channels, data.classes, data.image_size, spec.staging

    def step_cost(self, rates: Rates) -> StepCost:
        """Counted FLOPs of one training step at the requested rates, and the rates realised. Cached in the process.

        Raises:
            InvalidInput: when the model cannot have these rates.
        """
        realised, image_flops = _image_cost(self._cost_key, rates)
        return StepCost(realised, image_flops * self.batch_size)

    @property
    def warning(self) -> str | None:
        """What to tell people before a run: which attention or MLP modules of the model are not resized."""
        unknown = _meta_model(self._cost_key)[0].unknown
        if not unknown:
            return None
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        return f"{unknown[0]}{others} will stay at full size: no row in the table of layouts; see CONTRIBUTING.md"

    def check(self) -> None:
        """See that the model builds and that its optimizer can be resized, without training.

        Raises:
            InvalidInput: naming what is wrong.
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
    """See that timm has the model and the optimizer, and accepts the transform.

    Raises:
        InvalidInput: naming the first that it has not.
    """
    if not timm.is_model(spec.model.name):
        near = timm.list_models(f"*{spec.model.name.split('_')[0]}*")[:3]
        hint = f", for example {', '.join(near)}" if near else ""
        raise InvalidInput("model.name", spec.model.name, f"timm {timm.__version__} has no such model{hint}")
    if spec.recipe.optimizer not in list_optimizers():
        allowed = "unknown optimizer; must be one of timm.optim.list_optimizers()"
        raise InvalidInput("recipe.optimizer", spec.recipe.optimizer, allowed)
    check_transform(spec.recipe.augmentation.transform)


def _create(model: ModelSpec, arguments: dict[str, Any], pretrained: bool | None = None) -> nn.Module:
    try:
        return timm.create_model(pretrained=model.pretrained if pretrained is None else pretrained, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InvalidInput("model.options", model.options, f"timm refuses to build {model.name}: {error}") from None


def _elastic(model: nn.Module, staging: Staging, image_size: int, seed: int = 0) -> ElasticModel:
    return ElasticModel(model, staging, image_size=image_size, seed=seed)


@lru_cache(maxsize=8)
def _meta_model(key: CostKey) -> tuple[ElasticModel, dict[str, Any]]:
    """The model without memory, and the arguments of `timm.create_model` that it takes."""
    text, channels, classes, size, staging = key
    model = ModelSpec(**json.loads(text))
    arguments = {"model_name": model.name, "in_chans": channels, "num_classes": classes, **model.options}
    with torch.device("meta"):
        try:
            sized = {"img_size": size, **arguments}
            return _elastic(_create(model, sized, pretrained=False), staging, size), sized
        except InvalidInput as error:
            if "'img_size'" not in error.allowed:
                raise
        # Many pyramids take images of any size, and no such argument.
        return _elastic(_create(model, arguments, pretrained=False), staging, size), arguments


@lru_cache(maxsize=4096)
def _image_cost(key: CostKey, rates: Rates) -> tuple[Rates, int]:
    """Realised rates and FLOPs an image; counted on two images because BatchNorm needs more than one."""
    elastic, _ = _meta_model(key)
    realised = elastic.set_rates(rates)
    model, channels, _, size, _ = key
    try:
        flops = count_step_flops(elastic.model, (2, channels, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        name = json.loads(model)["name"]
        raise InvalidInput("data.image_size", size, f"{name} with these options cannot process such images: {error}") from None
    return realised, flops // 2
