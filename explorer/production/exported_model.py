"""What is handed over of a training: the timm model within what the user has, and what timm must know to open it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timm.data import resolve_data_config
from torch import nn

from explorer.errors import InvalidInput, validated
from explorer.production.model_folder import config_of
from explorer.production.staged_training import StagedTraining
from explorer.spec.data import Preprocessing
from explorer.spec.model_input import ModelInput


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """A model to hand over."""

    model: nn.Module
    """The timm model."""
    is_average: bool
    """Whether it is the average of the weights."""
    left_out: tuple[str, ...]
    """Parameters of what the user gave that are not in the timm model."""
    inputs: ModelInput
    assumed: tuple[str, ...]
    """Fields of the preprocessing that the user did not give."""
    config: dict[str, Any]
    """The content of `config.json`."""


def handed_over(
    model: nn.Module,
    staged: StagedTraining | None,
    class_names: Sequence[str],
    preprocessing: Preprocessing | Mapping[str, Any] | None,
) -> HandedOver:
    """What is handed over; see `explorer.production.export` for the arguments.

    Raises:
        InvalidInput: when an argument does not fit the training.
    """
    if not isinstance(staged, StagedTraining):
        reason = "must be a StagedTraining; that of a callback is callback.training, once training has started"
        raise InvalidInput("staged", staged, reason)
    inner, is_average = _of_training(model, staged)
    held = {id(parameter) for each in (inner, staged.model, staged.average) if each for parameter in each.parameters()}
    left_out = tuple(name for name, parameter in model.named_parameters() if id(parameter) not in held)
    names = _class_names(inner, class_names)
    channels, height, width = staged.image_shape
    if height != width:
        raise InvalidInput("image_shape", staged.image_shape, "must be square images: timm's transform of a folder makes these")
    pixels, assumed = _preprocessing(inner, preprocessing, staged.image_shape)
    inputs = ModelInput(class_names=names, image_size=height, channels=channels, preprocessing=pixels)
    if not hasattr(inner, "pretrained_cfg"):
        reason = "was not built by timm.create_model, and timm could not open it from a folder"
        raise InvalidInput("model", type(inner).__name__, reason)
    try:
        with staged.at_full_size():
            config = config_of(inner, inputs, published=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of timm's export
        raise InvalidInput("model", type(inner).__name__, f"cannot be described for timm: {error}") from None
    return HandedOver(model=inner, is_average=is_average, left_out=left_out, inputs=inputs, assumed=assumed, config=config)


def _of_training(model: object, staged: StagedTraining) -> tuple[nn.Module, bool]:
    """The timm model of a training within a module, and whether it is the average."""
    if not isinstance(model, nn.Module):
        raise InvalidInput("model", type(model).__name__, "must be a torch.nn.Module")
    modules = {id(module) for module in model.modules()}
    if id(staged.model) in modules:
        return staged.model, False
    if staged.average is not None and id(staged.average) in modules:
        return staged.average, True
    reason = "must be the model of this staged training, or the average that was given as its ema"
    raise InvalidInput("model", type(model).__name__, reason)


def _class_names(model: nn.Module, given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise InvalidInput("class_names", given, "must be a list of text: the classes in the order of the model's outputs")
    outputs = getattr(model, "num_classes", len(given))
    if not outputs:
        raise InvalidInput("model", type(model).__name__, "has no classifier (num_classes=0): timm would open it without one")
    if len(given) != outputs:
        reason = f"must be the names of the {outputs} outputs of the model"
        raise InvalidInput("class_names", f"{len(given)} names", reason)
    return tuple(given)


def _preprocessing(model: nn.Module, given: object, shape_CHW: tuple[int, int, int]) -> tuple[Preprocessing, tuple[str, ...]]:
    """The preprocessing of the evaluation, and the fields of it that were not given."""
    if isinstance(given, Preprocessing):
        given = given.model_dump(exclude_none=True)
    if not isinstance(given, Mapping | None):
        raise InvalidInput("preprocessing", given, f"must be a mapping with the keys {', '.join(Preprocessing.model_fields)}")
    content = {name: value for name, value in (given or {}).items() if value is not None}
    size = content.pop("input_size", None)
    if size is not None and tuple(size) != shape_CHW:
        reason = f"must be {shape_CHW}, the images that the schedule was compiled for (image_shape)"
        raise InvalidInput("preprocessing.input_size", size, reason)
    stated = validated(Preprocessing, content, "preprocessing").model_dump(exclude_none=True)
    known = resolve_data_config({}, pretrained_cfg=getattr(model, "pretrained_cfg", None) or {"input_size": shape_CHW})
    channels = shape_CHW[0]
    for name in ("mean", "std"):
        if len(known[name]) != channels:  # as timm's loaders do it
            known[name] = (sum(known[name]) / len(known[name]),) * channels
        if len(stated.get(name, ())) == 1:
            stated[name] *= channels
    fields = {name: stated.get(name, known[name]) for name in Preprocessing.model_fields}
    for name in ("mean", "std"):
        if len(fields[name]) != channels:
            reason = f"must have one value for each of the {channels} channels"
            raise InvalidInput(f"preprocessing.{name}", fields[name], reason)
    assumed = tuple(name for name in Preprocessing.model_fields if name not in stated)
    return validated(Preprocessing, fields, "preprocessing"), assumed
