"""A schedule in Hugging Face's Trainer. Needs the extra `transformers`."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import Any, Unpack

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from explorer.errors import InvalidInput
from explorer.production.arguments import StagedTrainingSettings, check_schedule, check_settings, timm_model_in
from explorer.production.early_weights import name_early_weights
from explorer.production.staged_training import StagedTraining
from explorer.spec.schedule import Schedule

STATE = "StagedTraining"
"""Key of the schedule's state within the Trainer's state. It is not the callback's own name: with
`restore_callback_states_from_checkpoint`, the Trainer would replace the callback by one that it builds from JSON."""


class StagedTrainingCallback(TrainerCallback):
    """Trains the timm model within a Trainer's model (such as a `TimmWrapperForImageClassification`) by a schedule.

        callback = StagedTrainingCallback(schedule, budget="25%", full_steps=300 * steps_per_epoch, batch_size=256)
        arguments = TrainingArguments(..., max_steps=callback.steps_for(model))
        Trainer(model, arguments, train_dataset=images, callbacks=[callback]).train()

    The callback sets the learning rate before each step and replaces that of the Trainer's scheduler. Checkpoints contain the
    model at full size; `train(resume_from_checkpoint=...)` resumes in the middle of a stage. With several processes
    (`torchrun`, `accelerate launch`), `batch_size` counts the images of all of them. When training ends, the model is at full
    size; after an error, of which callbacks are not told, `callback.training.finish()` sets it.

    Args:
        schedule: stages as shares of the budget, or in epochs.
        settings: the keyword arguments of `StagedTraining`. An average of the weights (`ema`) must be updated and saved by the
            caller.

    Raises:
        TypeError: when a keyword argument is missing or unknown.
        InvalidInput: when a stage has a batch size or an augmentation of its own: the Trainer reads the batches.
    """

    def __init__(self, schedule: Schedule, **settings: Unpack[StagedTrainingSettings]) -> None:
        check_settings(StagedTraining, settings)
        self._schedule, self._settings = check_schedule(schedule), settings
        self._full_size: AbstractContextManager[None] | None = None
        self.training: StagedTraining | None = None
        """The running schedule, which `explorer.production.export` takes; `None` before training has started."""

    def steps_for(self, model: nn.Module) -> int:
        """Number of optimizer steps until the budget is spent, for `TrainingArguments(max_steps=...)`.

        Raises:
            InvalidInput: as `StagedTraining`.
        """
        inner = timm_model_in(model)
        return StagedTraining(inner, torch.optim.SGD(inner.parameters()), self._schedule, **self._settings).plan.steps

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Let checkpoints that hold the model of an early stage be named as such when they are loaded."""
        if model is not None:
            with suppress(InvalidInput):
                name_early_weights(timm_model_in(model))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, optimizer: Any, **_: Any
    ) -> None:
        """Compile the plan for the Trainer's model and optimizer; resume if a checkpoint was loaded.

        Raises:
            InvalidInput: as `StagedTraining`; also for several devices in one process, for FSDP and DeepSpeed, where the best
                checkpoint is to be chosen, for a number of steps other than the plan's, and for a checkpoint that was saved
                without this callback.
        """
        if args.n_gpu > 1:
            raise InvalidInput("devices", args.n_gpu, "must be 1 for each process: start one per device with torchrun")
        for name in ("fsdp", "deepspeed"):
            if given := getattr(args, name, None):
                raise InvalidInput(name, given, "must be left out: stages need whole parameters on each device")
        if args.load_best_model_at_end:
            reason = (
                "must be False: checkpoints of early stages were evaluated with smaller models, and the schedule ends with the "
                "best one"
            )
            raise InvalidInput("load_best_model_at_end", True, reason)
        if args.save_strategy == "best":
            reason = "must be steps, epoch or no: for best, the Trainer saves without calling callbacks first"
            raise InvalidInput("save_strategy", "best", reason)
        self.training = StagedTraining(timm_model_in(model), optimizer, self._schedule, **self._settings)
        if state.max_steps != self.training.plan.steps:
            raise InvalidInput(
                "max_steps", state.max_steps, f"must be {self.training.plan.steps}, which steps_for(model) returns"
            )
        if state.global_step:
            if STATE not in state.stateful_callbacks:
                raise InvalidInput("resume_from_checkpoint", state.global_step, "was saved without this callback")
            self.training.load_state_dict(state.stateful_callbacks[STATE])

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin an optimizer step."""
        self._leave_full_size()
        self._running().step()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let a checkpoint that follows immediately be of the model at full size."""
        if control.should_save and not control.should_evaluate:
            self._await_saving(state)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let a checkpoint that follows immediately be of the model at full size."""
        self.on_step_end(args, state, control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let a checkpoint that follows be of the model at full size. Further data sets may be evaluated before that."""
        if control.should_save:
            self._await_saving(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Return to the stage's size."""
        self._leave_full_size()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the model to full size; warn if training ends before the plan does."""
        self._leave_full_size()
        self._running().finish()

    def _await_saving(self, state: TrainerState) -> None:
        """Set the model to full size when the Trainer reads it, and put the schedule's state into that of the Trainer."""
        if self._full_size is None and self.training is not None:
            training = self.training
            self._full_size = training.full_size.when_read(
                lambda: state.stateful_callbacks.update({STATE: training.state_dict()})
            )
            self._full_size.__enter__()

    def _leave_full_size(self) -> None:
        if self._full_size is not None:
            self._full_size.__exit__(None, None, None)
            self._full_size = None

    def _running(self) -> StagedTraining:
        assert self.training is not None
        return self.training
