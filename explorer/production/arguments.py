"""The arguments of `StagedTraining` and its callbacks, checked before training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NotRequired, TypedDict

from torch import nn
from torch.optim import Optimizer

from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.errors import InvalidInput, validated
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.schedule import Schedule
from explorer.spec.staging import Staging


class StagedTrainingSettings(TypedDict):
    """The keyword arguments of `StagedTraining`, which callbacks pass on to it. It describes them."""

    budget: str | float | Budget
    full_steps: float
    batch_size: int
    epoch_steps: NotRequired[float | None]
    lr_schedule: NotRequired[LearningRateSchedule | None]
    image_shape: NotRequired[tuple[int, int, int] | None]
    ema: NotRequired[nn.Module | None]
    staging: NotRequired[Staging | None]
    seed: NotRequired[int]


def check_settings(training: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Check that a callback was given the keyword arguments of `StagedTraining`.

    Raises:
        TypeError: when a required argument is missing or an argument is unknown, as a call would.
    """
    inspect.signature(training).bind(None, None, None, **settings)


def check_schedule(schedule: object) -> Schedule:
    """A schedule that can be executed in a loop that reads its own batches.

    Raises:
        InvalidInput: when it is no schedule, or a stage has an augmentation or a batch size of its own.
    """
    if not isinstance(schedule, Schedule):
        raise InvalidInput("schedule", schedule, "must be a Schedule, as Schedule.load(path) returns")
    of_batches = "must be 1 here: the loop reads its own batches, and only `explorer train` changes them by stage"
    for number, stage in enumerate(schedule.stages):
        changes = {"batch_factor": stage.batch_factor}
        changes |= {f"augmentation.{name}": getattr(stage.augmentation, name) for name in ("magnitude", "mixup")}
        for name, value in changes.items():
            if value != 1:
                raise InvalidInput(f"schedule: stages.{number}.{name}", value, of_batches)
    return schedule


def staging_for(schedule: Schedule, given: object) -> Staging:
    """How reduced models are derived: as given, or as the schedule says.

    Args:
        schedule: its settings of `staging` replace the defaults.
        given: the argument of the caller; `None` if there is none.

    Raises:
        InvalidInput: when it is no staging, or the schedule was made for another one.
    """
    if not isinstance(given, Staging | None):
        raise InvalidInput("staging", given, "must be a Staging or None")
    if given is None:
        return validated(Staging, schedule.staging, "schedule: staging")
    for name, value in schedule.staging.items():
        if (other := getattr(given, name)) != value:
            raise InvalidInput(f"staging.{name}", other, f"must be {value!r}, for which the schedule was made")
    return given


def positive_number(field: str, value: object, meaning: str) -> float:
    """A finite number above 0 as a Python float or integer: numpy's integers can overflow.

    Args:
        field: name of the argument.
        value: its value.
        meaning: what the number says, for the error message.
    """
    if not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise InvalidInput(field, value, f"must be a number above 0: {meaning}")
    return int(value) if isinstance(value, Integral) else float(value)


def positive_integer(field: str, value: object) -> int:
    """A whole number above 0 as a Python integer."""
    if not (isinstance(value, Integral) and int(value) > 0):
        raise InvalidInput(field, value, "must be a whole number, at least 1")
    return int(value)


def image_shape_of(model: nn.Module, given: object) -> tuple[int, int, int]:
    """Channels, height and width of full images, as given or as the model's `pretrained_cfg` says."""
    shape = getattr(model, "pretrained_cfg", {}).get("input_size") if given is None else given
    if shape is None:
        raise InvalidInput("image_shape", None, "is required: this model does not specify the size of its images")
    if not isinstance(shape, Sequence) or len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise InvalidInput("image_shape", shape, "must be three whole numbers: channels, height and width")
    channels, height, width = shape
    return channels, height, width


def timm_model_in(module: nn.Module) -> nn.Module:
    """The timm model within a LightningModule or a model of transformers.

    Raises:
        InvalidInput: when there is none, or more than one.
    """
    models = _timm_models(module)
    if len(models) != 1:
        raise InvalidInput("model", type(module).__name__, f"must contain one timm model; it contains {len(models)}")
    return models[0]


def resizable_model(model: nn.Module) -> nn.Module:
    """The model to resize: the timm model within a model of the user's own (`Net(backbone=...)`), or the model itself.

    Raises:
        InvalidInput: when it contains several timm models.
    """
    models = _timm_models(model)
    if len(models) > 1:
        reason = f"contains {len(models)} timm models; pass the one that is trained in stages"
        raise InvalidInput("model", type(model).__name__, reason)
    return models[0] if models else model


def _timm_models(module: nn.Module) -> list[nn.Module]:
    """The timm models in a module, outermost ones alone."""
    models: list[nn.Module] = []
    for _, inner in module.named_modules():
        is_timm_model = type(inner).__module__.startswith("timm.models.") and hasattr(inner, "pretrained_cfg")
        if is_timm_model and not any(inner is part for model in models for part in model.modules()):
            models.append(inner)
    return models


def check_optimizers(optimizers: Sequence[Optimizer], model: nn.Module) -> None:
    """Check that optimizers have all trained parameters of the model between them, and none of them twice."""
    if not optimizers or not all(isinstance(optimizer, Optimizer) for optimizer in optimizers):
        raise InvalidInput("optimizer", optimizers, "must be an optimizer of torch, or several in a list")
    held = [parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
    optimized = {id(parameter) for parameter in held}
    twice = [name for name, parameter in model.named_parameters() if sum(each is parameter for each in held) > 1]
    names = ", ".join(type(optimizer).__name__ for optimizer in optimizers)
    if twice:
        raise InvalidInput("optimizer", names, f"must divide the parameters: {twice[0]} is in two of them")
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    missing = [name for name, parameter in trained if id(parameter) not in optimized]
    if missing:
        reason = f"was not built for this model: it does not have {missing[0]} ({len(missing)} missing in total)"
        raise InvalidInput("optimizer", names, reason)


def check_states(optimizers: Sequence[Optimizer]) -> None:
    """Check that the states that optimizers have so far can be resized."""
    for optimizer in optimizers:
        if obstacle := resizing_obstacle(optimizer):
            raise InvalidInput("optimizer", type(optimizer).__name__, f"cannot be used with stages: {obstacle}; use adamw")


def average_of(model: nn.Module, ema: nn.Module) -> nn.Module:
    """The copy of the model within an average of its weights."""
    inner = getattr(ema, "module", ema)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    actual = {name: parameter.shape for name, parameter in inner.named_parameters()} if isinstance(inner, nn.Module) else {}
    differing = [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]
    if inner is model or differing:
        reason = f"{differing[0]} differs" if differing else "this is the model itself"
        raise InvalidInput("ema", type(ema).__name__, f"must be an average of this timm model, made before training: {reason}")
    return inner
