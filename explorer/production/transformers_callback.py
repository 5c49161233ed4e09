"""A schedule in Hugging Face's Trainer. Needs the extra `transformers`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from explorer.errors import InvalidInput
from explorer.production.arguments import timm_model_in
from explorer.production.staged_training import StagedTraining
from explorer.spec.schedule import Schedule

STATE = "StagedTraining"
"""Where the Trainer's state keeps that of the schedule. Not under the callback's own name: where
`restore_callback_states_from_checkpoint` is set, the Trainer would replace the callback by one that it builds from JSON."""


class StagedTrainingCallback(TrainerCallback):
    """Trains the timm model inside a Trainer's model (a `TimmWrapperForImageClassification`, say) by a schedule.

        callback = StagedTrainingCallback(schedule, budget="25%", full_steps=300 * steps_per_epoch, batch_size=256)
        arguments = TrainingArguments(..., max_steps=callback.steps_for(model))
        Trainer(model, arguments, train_dataset=images, callbacks=[callback]).train()

    The callback sets the learning rate before each step, whatever the Trainer's scheduler says. Checkpoints hold the model at
    full size; `train(resume_from_checkpoint=...)` goes on in the middle of a stage. One device.

    Args:
        schedule: stages as shares of the budget.
        settings: of `StagedTraining`: budget, full_steps and the rest. An average of the weights (`ema`) is the caller's to
            update and to save.
    """

    def __init__(self, schedule: Schedule, **settings: Any) -> None:
        self._schedule, self._settings = schedule, settings
        self._full: Any = None
        self.training: StagedTraining | None = None
        """The schedule at work, once training has started."""

    def steps_for(self, model: nn.Module) -> int:
        """Optimizer steps until the budget is spent: what `TrainingArguments(max_steps=...)` has to be.

        Raises:
            InvalidInput: as `StagedTraining`.
        """
        inner = timm_model_in(model)
        return StagedTraining(inner, torch.optim.SGD(inner.parameters()), self._schedule, **self._settings).plan.steps

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, optimizer: Any, **_: Any
    ) -> None:
        """Compile the plan for the Trainer's model and optimizer; go on where a checkpoint was taken.

        Raises:
            InvalidInput: as `StagedTraining`; for several devices, another number of steps than the plan's, and a checkpoint
                that this callback took no part in.
        """
        if args.world_size > 1 or args.n_gpu > 1:
            devices = max(args.world_size, args.n_gpu)
            raise InvalidInput("devices", devices, "must be 1: the wrapper of several is made for one size of the model")
        if args.save_strategy == "best":
            raise InvalidInput(
                "save_strategy", "best", "must be steps, epoch or no: between evaluation and that save nobody is asked"
            )
        raw = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        self.training = StagedTraining(timm_model_in(model), raw, self._schedule, **self._settings)
        if state.max_steps != self.training.plan.steps:
            raise InvalidInput("max_steps", state.max_steps, f"must be {self.training.plan.steps}, what steps_for(model) gives")
        if state.global_step:
            if STATE not in state.stateful_callbacks:
                raise InvalidInput("resume_from_checkpoint", state.global_step, "was taken without this callback")
            self.training.load_state_dict(state.stateful_callbacks[STATE])

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin an optimizer step."""
        self._shrink()
        self._at_work().step()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Grow for a checkpoint that follows at once."""
        if control.should_save and not control.should_evaluate:
            self._grow(state)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Grow for a checkpoint that follows at once."""
        self.on_step_end(args, state, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Grow for a checkpoint that follows the evaluation of the stage's own model."""
        if control.should_save:
            self._grow(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Back to the stage's size."""
        self._shrink()

    def _grow(self, state: TrainerState) -> None:
        if self._full is None and self.training is not None:
            self._full = self.training.at_full_size()
            self._full.__enter__()
            state.stateful_callbacks[STATE] = self.training.state_dict()

    def _shrink(self) -> None:
        if self._full is not None:
            self._full.__exit__(None, None, None)
            self._full = None

    def _at_work(self) -> StagedTraining:
        assert self.training is not None
        return self.training
