"""The model of a task: built by timm with the arguments that the data determines, and counted on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import timm
import torch
from torch import nn

from explorer.data.preprocessing import timm_name, timm_options
from explorer.elastic.step_cost import StepCounter
from explorer.errors import InvalidInput
from explorer.references import is_reference, load_reference
from explorer.spec.model import ModelSpec
from explorer.spec.staging import Staging
from explorer.training.initial_weights import fitted_weights
from explorer.training.model_factories import build_referenced

NOT_OPTIONS = {
    "num_classes": "it is the number of classes of the data",
    "in_chans": "it is the number of channels of the data",
    "img_size": "set data.image_size",
    "model_name": "set model.name",
    "pretrained": "set model.pretrained",
    "features_only": "training needs the model's classifier",
}
"""Keyword arguments of `timm.create_model` that other settings determine, and which."""
CHECKED_IMAGES = 2
"""Batch size with which a model's output is checked."""


def check_model_name(model: ModelSpec) -> None:
    """Check that timm has the model, and that its options leave to other settings what these determine.

    Raises:
        InvalidInput: naming the setting that is wrong.
    """
    name = model.name
    if is_reference(name):
        load_reference(name, "model.name")
        if model.pretrained:
            raise InvalidInput(
                "model.pretrained", True, f"downloads timm's weights, and {name} is not timm's; use model.checkpoint"
            )
    elif ":" not in name and not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f", for example {', '.join(near)}" if near else ""
        raise InvalidInput("model.name", name, f"timm {timm.__version__} has no such model{hint}")
    for option, instead in NOT_OPTIONS.items():
        if option in model.options:
            raise InvalidInput(f"model.options.{option}", model.options[option], f"does not belong here: {instead}")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that the cost of a step depends on besides the rates and the batch size."""

    model: ModelSpec
    channels: int
    classes: int
    image_size: int
    staging: Staging

    def __hash__(self) -> int:  # a model's options may be lists
        return hash((self.model.model_dump_json(), self.channels, self.classes, self.image_size, self.staging))


@dataclass(frozen=True)
class CountedModel:
    """A model on the meta device."""

    counter: StepCounter
    arguments: dict[str, Any]
    """Keyword arguments of `timm.create_model` that the model was built with."""
    parameters: int
    """Number of parameters of the model at full size."""


@lru_cache(maxsize=64)
def counted_model(architecture: Architecture) -> CountedModel:
    """Build the model on the meta device, with the arguments of `timm.create_model` that it accepts."""
    model, size = architecture.model, architecture.image_size
    required = {"model_name": timm_name(model), "in_chans": architecture.channels, "num_classes": architecture.classes}
    options = timm_options(model)
    arguments = {"img_size": size, **required, **options}
    with torch.device("meta"):
        try:
            built = create_model(model, arguments)
        except InvalidInput as error:
            if "'img_size'" not in error.allowed:
                raise
            # Many pyramids take images of any size, and have no such argument.
            arguments = {**required, **options}
            built = create_model(model, arguments)
        parameters = sum(parameter.numel() for parameter in built.parameters())
        counter = StepCounter(built, architecture.staging, (architecture.channels, size, size))
        return CountedModel(counter, arguments, parameters)


@lru_cache(maxsize=64)
def check_output(architecture: Architecture) -> None:
    """Check that the model maps images to class scores.

    Raises:
        InvalidInput: when it returns something else, as some options make it do (`global_pool: ""`).
    """
    model, size = architecture.model, architecture.image_size
    with torch.device("meta"), torch.no_grad():
        built = create_model(model, counted_model(architecture).arguments)
        scores = built(torch.empty(CHECKED_IMAGES, architecture.channels, size, size))
    expected = (CHECKED_IMAGES, architecture.classes)
    if not isinstance(scores, torch.Tensor) or scores.shape != expected:
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        reason = f"{model.name} with these options returns {shape} for {CHECKED_IMAGES} images, not scores of shape {expected}"
        raise InvalidInput("model.options", model.options, reason)


@lru_cache(maxsize=8)
def check_checkpoint(architecture: Architecture) -> tuple[str, ...]:
    """Check that the file of weights that training starts from fits the model; read once for each content.

    Returns:
        What differs from the file, one clause each; empty without a file.

    Raises:
        InvalidInput: see `fitted_weights`.
    """
    if architecture.model.checkpoint is None:
        return ()
    with torch.device("meta"):
        built = create_model(architecture.model, counted_model(architecture).arguments)
    return fitted_weights(built, architecture.model).changes


def create_model(model: ModelSpec, arguments: dict[str, Any], pretrained: bool = False) -> nn.Module:
    """`timm.create_model`, or the class or function that the model's name refers to.

    Raises:
        InvalidInput: when timm does not know the model or its options, the class or function fails, or pretrained weights
            cannot be loaded.
    """
    if is_reference(model.name):
        try:
            return build_referenced(model.name, arguments)
        except InvalidInput:
            raise
        except Exception as error:  # code of others
            reason = f"{model.name} cannot be built: {type(error).__name__}: {error}"
            raise InvalidInput("model.options", model.options, reason) from None
    try:
        return timm.create_model(pretrained=pretrained, **arguments)
    except Exception as error:  # timm checks by assertions and signatures, and downloads
        if pretrained:
            reason = f"the weights of {model.name} cannot be loaded: {type(error).__name__}: {error}"
            raise InvalidInput("model.pretrained", True, reason) from None
        raise InvalidInput("model.options", model.options, f"timm refuses to build {model.name}: {error}") from None
