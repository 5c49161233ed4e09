"""The task: model + data + recipe, everything about a training run but its schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Literal

import timm
import torch
from pydantic import Field, field_validator, model_validator
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel
from explorer.elastic.depth import BlockSubset
from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.elastic.subset import SubsetChoice
from explorer.elastic.tokens import TokenPolicy
from explorer.elastic.waking import Wake
from explorer.errors import InvalidInput, validated
from explorer.learning_rate import LearningRateCurve
from explorer.plan import StepCost
from explorer.schedule import Frozen, Provenance, Rates
from explorer.training.augmentation import Augmentation, mixed
from explorer.training.data import Batch, DataSource, DataSpec, open_data
from explorer.training.workers import ALONE, Workers

FUSED = ("adam", "adamw")
"""Optimizers whose torch implementation has a fused kernel on both CPU and GPU."""


class ModelSpec(Frozen):
    """A timm model."""

    name: str
    """As in `timm.list_models()`."""
    pretrained: bool = False
    """Start from timm's weights for this name, which are downloaded."""
    options: dict[str, Any] = {}
    """Further keyword arguments of `timm.create_model`: depth, embed_dim, drop_path_rate, ..."""


class Recipe(Frozen):
    """How to train."""

    epochs: float = Field(gt=0)
    """Length of full training: passes over the training images at rates 1. Its cost is budget 100 %."""
    batch_size: int = Field(ge=1)
    """Images in one optimizer step, those of all workers and accumulated parts together."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    curve: LearningRateCurve = LearningRateCurve()
    optimizer: str = "adamw"
    """Any name of `timm.optim.list_optimizers()` that keeps per-parameter state in the parameter's shape."""
    weight_decay: float = Field(0.05, ge=0)
    """Of the optimizer."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Of the cross entropy."""
    clip_grad: float | None = Field(None, gt=0)
    """Largest gradient norm; none: no clipping."""
    accumulation: int = Field(1, ge=1)
    """Parts that a batch is computed in, one after another, where it does not fit into memory."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and kept; early in training the
    decay is smaller (`ModelEmaV3(use_warmup=True)` of timm). None: no average."""
    amp: Literal["auto", "bf16", "off"] = "auto"
    """Mixed precision; auto: bf16 on a GPU, off on the CPU."""
    compile: bool = False
    """torch.compile, renewed at every stage change."""
    augmentation: Augmentation = Augmentation()

    @field_validator("optimizer")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in list_optimizers():
            raise ValueError("unknown optimizer; must be one of timm.optim.list_optimizers()")
        return name


class Staging(Frozen):
    """How a stage at reduced rates is made of the full model. This project's choices; a sweep can compare them."""

    subset: SubsetChoice = "leading"
    """Which heads and channels are active: the leading ones, others at random in each stage, or those of largest weights."""
    waking: Wake = "initial"
    """How entries start that wake up: as initialised, or with output columns of zero, so that the loss does not jump."""
    token_policy: TokenPolicy = "auto"
    """How tokens become fewer: random ones are dropped, or images are made smaller; auto: drop where the model can."""
    blocks: BlockSubset = "prefix"
    """Which blocks are active where the depth is reduced: the first ones, or evenly spread ones."""

    @model_validator(mode="after")
    def _check(self) -> Staging:
        if self.waking == "preserving" and self.subset == "random":
            raise ValueError("waking: preserving needs a subset that only grows, leading or importance, not random")
        if self.waking == "preserving" and self.blocks == "even":
            raise ValueError("waking: preserving needs blocks that stay active, prefix, not even")
        return self


class TaskSpec(Frozen):
    """A task as read from a file."""

    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    staging: Staging = Staging()

    def with_settings(
        self, learning_rate: float, batch_size: int, staging: Mapping[str, str] = MappingProxyType({})
    ) -> TaskSpec:
        """The same task with the two settings that every sweep tunes, and those of `staging` that it searches.

        Raises:
            InvalidInput: when the settings of `staging` do not go together.
        """
        recipe = self.recipe.model_copy(update={"learning_rate": learning_rate, "batch_size": batch_size})
        chosen = validated(Staging, {**self.staging.model_dump(), **staging}, "staging")
        return self.model_copy(update={"recipe": recipe, "staging": chosen})

    def measured_as(self, provenance: Provenance | None) -> TaskSpec:
        """The same task with the settings that a schedule's accuracy was measured with, where it has any."""
        if provenance is None:
            return self
        return self.with_settings(provenance.learning_rate, provenance.batch_size, provenance.staging)


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
        pixels = spec.data.preprocessing.for_model(spec.model.name)
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
            if given and name not in self.data.augmented_by:
                reason = (
                    f"does not apply to {spec.data.name!r}, whose images are changed by {', '.join(self.data.augmented_by)}"
                )
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
    def curve(self) -> LearningRateCurve:
        """The learning rate over budget time."""
        return self.spec.recipe.curve

    def amp(self, device: torch.device) -> bool:
        """Whether training on a device is in bf16."""
        wanted = self.spec.recipe.amp
        return wanted == "bf16" or (wanted == "auto" and device.type == "cuda")

    def train_batches(
        self, seed: int, first_step: int, steps: int, device: torch.device, workers: Workers = ALONE
    ) -> Iterator[Batch]:
        """This worker's share of some steps' batches, augmented by the recipe; see `DataSource.train_batches` and `mixed`."""
        augmentation = self.spec.recipe.augmentation
        batches = self.data.train_batches(seed, first_step, steps, self.batch_size, augmentation, device, workers)
        return mixed(batches, augmentation, self.data.classes, seed, first_step)

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


def _create(model: ModelSpec, arguments: dict[str, Any], pretrained: bool | None = None) -> nn.Module:
    try:
        return timm.create_model(pretrained=model.pretrained if pretrained is None else pretrained, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InvalidInput("model.options", model.options, f"timm refuses to build {model.name}: {error}") from None


def _elastic(model: nn.Module, staging: Staging, image_size: int, seed: int = 0) -> ElasticModel:
    return ElasticModel(model, **staging.model_dump(), image_size=image_size, seed=seed)


@lru_cache(maxsize=8)
def _meta_model(key: CostKey) -> tuple[ElasticModel, dict[str, Any]]:
    """The model without memory, and the arguments of `timm.create_model` that it takes."""
    text, channels, classes, size, staging = key
    model = ModelSpec(**json.loads(text))
    if not timm.is_model(model.name):
        near = timm.list_models(f"*{model.name.split('_')[0]}*")[:3]
        hint = f", for example {', '.join(near)}" if near else ""
        raise InvalidInput("model.name", model.name, f"timm {timm.__version__} has no such model{hint}")
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
