"""Executes a schedule by hooks on a model and its optimizer, in a loop that cannot be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from explorer.errors import InvalidInput

if TYPE_CHECKING:
    from explorer.production.staged_training import StagedTraining


def follow_optimizer(training: StagedTraining) -> None:
    """Let hooks call `training.step()`; see `StagedTraining.follow_optimizer`."""
    awaiting_update, beyond_plan = not training.begun, False
    updated_since_pass: list[Optimizer] = []
    if awaiting_update:
        training.step()

    def begin_step(model: nn.Module, _: Any) -> None:
        nonlocal awaiting_update, beyond_plan
        if not model.training:
            return
        updated_since_pass.clear()
        if not awaiting_update:
            awaiting_update, beyond_plan = True, not training.step()

    def set_learning_rates(*_: Any) -> None:
        training.set_learning_rates(0.0 if beyond_plan else training.factor)

    def note_update(optimizer: Optimizer, *_: Any) -> None:
        nonlocal awaiting_update
        if _was_skipped(optimizer):
            return
        if not training.done and any(each is optimizer for each in updated_since_pass):
            reason = (
                "made no forward pass in training mode between two optimizer steps, so no step of the schedule could begin: "
                "call the model itself in training mode, as model(images), not forward_features or another of its methods"
            )
            raise InvalidInput("model", type(training.model).__name__, reason)
        updated_since_pass.append(optimizer)
        awaiting_update = False

    # Before all other hooks: one of them reduces the size of images, for the size that the model then has.
    training.model.register_forward_pre_hook(begin_step, prepend=True)
    for optimizer in training.optimizers:
        optimizer.register_step_pre_hook(set_learning_rates)
        optimizer.register_step_post_hook(note_update)


def _was_skipped(optimizer: Optimizer) -> bool:
    """Whether a gradient scaler has made this call of a fused optimizer skip its update.

    It calls such an optimizer in any case, and tells it by `found_inf`, an attribute that exists during this call alone.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)
