"""Executes a schedule by hooks on a model and its optimizer, in a loop that cannot be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from explorer.production.staged_training import StagedTraining


def follow_optimizer(training: StagedTraining) -> None:
    """Let hooks call `training.step()`; see `StagedTraining.follow_optimizer`."""
    awaiting_update, beyond_plan = not training.begun, False
    if awaiting_update:
        training.step()

    def begin_step(model: nn.Module, _: Any) -> None:
        nonlocal awaiting_update, beyond_plan
        if model.training and not awaiting_update:
            awaiting_update, beyond_plan = True, not training.step()

    def set_learning_rates(*_: Any) -> None:
        training.set_learning_rates(0.0 if beyond_plan else training.factor)

    def note_update(*_: Any) -> None:
        nonlocal awaiting_update
        awaiting_update = False

    # Before all other hooks: one of them reduces the size of images, for the size that the model then has.
    training.model.register_forward_pre_hook(begin_step, prepend=True)
    for optimizer in training.optimizers:
        optimizer.register_step_pre_hook(set_learning_rates)
        optimizer.register_step_post_hook(note_update)
