"""Weights of an early stage that are loaded into the full model are named as such, and not as a mere mismatch of shapes."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from explorer.errors import InvalidInput
from explorer.training.tensor_shapes import early_stage_clause, first_different_tensor

_checked: WeakSet[nn.Module] = WeakSet()


def name_early_weights(model: nn.Module) -> None:
    """Let `load_state_dict` of a model, or of one that contains it, refuse weights that were saved in an early stage.

    They have fewer heads, channels or blocks than the model, and torch refuses them with a list of shapes. Where blocks are
    missing and nothing else differs, there is a warning, because `strict=False` accepts this. All else is loaded, or refused,
    as without this.

    Args:
        model: the timm model, at full size.
    """
    if model not in _checked:
        _checked.add(model)
        model.register_load_state_dict_pre_hook(_refuse_early_weights)


def _refuse_early_weights(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Hook of `load_state_dict`, which calls it before anything is copied into the module.

    Raises:
        InvalidInput: for weights of an early stage.
    """
    in_model = {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}
    in_file = {name: tuple(state[prefix + name].shape) for name in in_model if isinstance(state.get(prefix + name), Tensor)}
    different, clause = first_different_tensor(in_file, in_model), early_stage_clause(in_file, in_model)
    if not different or not clause:
        return
    reason = f"{different.in_file} in these weights, and {different.in_model} in the model{clause}"
    if all(in_file[name] == in_model[name] for name in in_file):
        warnings.warn(f"state_dict: {different.name} {reason}", stacklevel=2)  # hooks do not learn whether it is strict
    else:
        raise InvalidInput("state_dict", different.name, reason)
