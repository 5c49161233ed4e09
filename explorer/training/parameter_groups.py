"""Groups of parameters with their own weight decay and learning rate, as timm makes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import Optimizer

from explorer.errors import InvalidInput
from explorer.spec.recipe import Recipe

FUSED = ("adam", "adamw")
"""Optimizers whose torch implementation has a fused kernel on both CPU and GPU."""


def build_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """timm's optimizer for a recipe, over the groups of a model at full size; fused if torch has a fused implementation.

    Groups refer to parameters, which keep their identity when the model is resized.
    """
    fused: dict[str, Any] = {"fused": True} if recipe.optimizer in FUSED else {}
    return create_optimizer_v2(parameter_groups(recipe, model), recipe.optimizer, lr=recipe.learning_rate, **fused)


def parameter_groups(recipe: Recipe, model: nn.Module) -> list[dict[str, Any]]:
    """The groups of a model's parameters. With layer decay, `lr_scale` is a group's factor on the learning rate."""
    named: Collection[str] = getattr(model, "no_weight_decay", set)() if recipe.no_weight_decay else ()
    options: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "weight_decay_exclude_1d": recipe.no_weight_decay,
        "no_weight_decay_list": named,
    }
    if recipe.layer_decay is None:
        groups: list[dict[str, Any]] = param_groups_weight_decay(model, **options)
    else:
        groups = param_groups_layer_decay(model, layer_decay=recipe.layer_decay, **options)
    return groups


def check_layer_decay(recipe: Recipe, model: nn.Module, name: str) -> None:
    """Check that layer decay has an effect on a model.

    Raises:
        InvalidInput: when timm does not divide the model into layers.
    """
    if recipe.layer_decay is None or recipe.layer_decay == 1:
        return
    if len({group["lr_scale"] for group in parameter_groups(recipe, model)}) == 1:
        allowed = f"changes nothing: timm assigns all parameters of {name} to one layer; leave it out"
        raise InvalidInput("recipe.layer_decay", recipe.layer_decay, allowed)
