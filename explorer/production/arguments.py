"""What people hand to `StagedTraining` and its callbacks, checked before training."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from torch import nn
from torch.optim import Optimizer

from explorer.elastic.optimizer_state import resizing_obstacle
from explorer.errors import InvalidInput


def timm_model_in(module: nn.Module) -> nn.Module:
    """The timm model that a LightningModule or a model of transformers wraps.

    Raises:
        InvalidInput: when there is none, or more than one.
    """
    found: list[nn.Module] = []
    for _, inner in module.named_modules():
        whole = type(inner).__module__.startswith("timm.models.") and hasattr(inner, "pretrained_cfg")
        if whole and not any(inner is part for other in found for part in other.modules()):
            found.append(inner)
    if len(found) != 1:
        raise InvalidInput("model", type(module).__name__, f"must hold one timm model; it holds {len(found)}")
    return found[0]


def number(field: str, value: Any, kind: type[Any], allowed: str) -> Any:
    """A finite number above 0 as Python's own: numpy's overflow."""
    if not (isinstance(value, kind) and 0 < value < math.inf):
        raise InvalidInput(field, value, allowed)
    return int(value) if isinstance(value, Integral) else float(value)


def check_optimizer(optimizer: Optimizer, model: nn.Module) -> None:
    """See that an optimizer holds all parameters of the model that are trained."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in model.named_parameters() if parameter.requires_grad and id(parameter) not in held]
    if missing:
        lacks = f"was not built on this model: it does not hold {missing[0]} ({len(missing)} in all)"
        raise InvalidInput("optimizer", type(optimizer).__name__, lacks)


def check_state(optimizer: Optimizer) -> None:
    """See that an optimizer's state, as far as it has any yet, can be resized."""
    if obstacle := resizing_obstacle(optimizer):
        raise InvalidInput("optimizer", type(optimizer).__name__, f"cannot be used with stages: {obstacle}; use adamw")


def average_of(model: nn.Module, ema: nn.Module) -> nn.Module:
    """The copy of the model that an average keeps."""
    inner = getattr(ema, "module", ema)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = {name: parameter.shape for name, parameter in inner.named_parameters()} if isinstance(inner, nn.Module) else {}
    differing = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if inner is model or differing:
        why = f"{differing[0]} differs" if differing else "this is the model itself"
        raise InvalidInput("ema", type(ema).__name__, f"must be an average of this timm model, made before training: {why}")
    return inner
