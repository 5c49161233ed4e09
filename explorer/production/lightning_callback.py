"""A schedule in Lightning's Trainer. Needs the extra `lightning`."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl

from explorer.errors import InvalidInput
from explorer.production.arguments import timm_model_in
from explorer.production.staged_training import StagedTraining
from explorer.spec.schedule import Schedule

AVERAGES = {"WeightAveraging", "StochasticWeightAveraging"}
"""Lightning's callbacks that average the weights, by name: the first is there since 2.6."""


class StagedTrainingCallback(pl.Callback):
    """Trains the timm model inside a LightningModule by a schedule, and stops the Trainer when the budget is spent.

        schedule = Schedule.load("best.json")
        callback = StagedTrainingCallback(schedule, budget="25%", full_steps=300 * len(loader), batch_size=256)
        Trainer(max_epochs=-1, callbacks=[callback]).fit(module, loader)

    The module configures one optimizer, with the peak learning rate and no scheduler: the callback sets the rate. Checkpoints
    hold the model at full size; `fit(..., ckpt_path=...)` goes on in the middle of a stage. One device.

    Args:
        schedule: stages as shares of the budget.
        settings: of `StagedTraining`: budget, full_steps and the rest. An average of the weights (`ema`) is the caller's to
            update and to save.
    """

    def __init__(self, schedule: Schedule, **settings: Any) -> None:
        self._schedule, self._settings = schedule, settings
        self._saved: dict[str, Any] | None = None
        self.training: StagedTraining | None = None
        """The schedule at work, once training has started."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile the plan for the module's model and optimizer; go on where a checkpoint was taken.

        Raises:
            InvalidInput: as `StagedTraining`; for several optimizers or devices, for Lightning's own averages of the weights,
                and when the Trainer would stop by itself.
        """
        if len(trainer.optimizers) != 1:
            raise InvalidInput("optimizers", len(trainer.optimizers), "must be one")
        if trainer.world_size > 1:
            raise InvalidInput(
                "devices", trainer.world_size, "must be 1: the wrapper of several is made for one size of the model"
            )
        for callback in trainer.callbacks:
            if AVERAGES & {kind.__name__ for kind in type(callback).__mro__}:
                other = "cannot be used with stages: its average is made for one size of the model; average by ema="
                raise InvalidInput("callbacks", type(callback).__name__, other)
        if trainer.max_epochs != -1 or trainer.max_steps != -1:
            ends = f"{trainer.max_epochs} (max_steps {trainer.max_steps})"
            raise InvalidInput("max_epochs", ends, "both must be -1: training ends when the budget is spent")
        self.training = StagedTraining(timm_model_in(pl_module), trainer.optimizers[0], self._schedule, **self._settings)
        if self._saved is not None:
            self.training.load_state_dict(self._saved)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> int | None:
        """Begin an optimizer step, unless this batch is accumulated to one that has begun."""
        training = self._at_work()
        if trainer.global_step < training.begun or training.step():
            return None
        trainer.should_stop = True
        return -1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after the last step of the plan."""
        training = self._at_work()
        if training.done and trainer.global_step >= training.begun:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the states at full size in the place of those of the resized model."""
        if self.training is None:
            return
        with self.training.at_full_size():
            states = [trainer.strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers]
            # Lightning writes the file later, when model and optimizer are small again.
            checkpoint.update(copy.deepcopy({"state_dict": pl_module.state_dict(), "optimizer_states": states}))

    def state_dict(self) -> dict[str, Any]:
        """What Lightning keeps of this callback."""
        return {"training": self.training.state_dict()} if self.training else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember a checkpoint's state until model and optimizer are loaded."""
        self._saved = state_dict.get("training")

    def _at_work(self) -> StagedTraining:
        assert self.training is not None
        return self.training
