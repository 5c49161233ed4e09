"""A schedule in Lightning's Trainer. Needs the extra `lightning`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Unpack

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from explorer.errors import InvalidInput
from explorer.production.arguments import StagedTrainingSettings, check_schedule, check_settings, timm_model_in
from explorer.production.early_weights import name_early_weights
from explorer.production.staged_training import StagedTraining
from explorer.spec.schedule import Schedule

WEIGHT_AVERAGING_CALLBACKS = {"WeightAveraging", "StochasticWeightAveraging"}
"""Names of Lightning's callbacks that average the weights. By name, because the first exists only since Lightning 2.6."""


class StagedTrainingCallback(pl.Callback):
    """Trains the timm model within a LightningModule by a schedule, and stops the Trainer when the budget is spent.

        schedule = Schedule.load("best.json")
        callback = StagedTrainingCallback(schedule, budget="25%", full_steps=300 * len(loader), batch_size=256)
        Trainer(max_epochs=-1, callbacks=[callback]).fit(module, loader)

    The module configures an optimizer with the peak learning rate, and no scheduler: the callback sets the learning rate. With
    several optimizers, each of them makes a step for each batch (manual optimization).

    All checkpoints contain the model at full size, those of weights alone too; `fit(..., ckpt_path=...)` resumes in the middle
    of a stage. However training ends, the model is at full size afterwards. With several devices (`strategy="ddp"`),
    `batch_size` counts the images of all of them.

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
        self._saved: dict[str, Any] | None = None
        self.training: StagedTraining | None = None
        """The running schedule, which `explorer.production.export` takes; `None` before training has started."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let checkpoints that hold the model of an early stage be named as such when they are loaded.

        A module that makes its model later is checked from `on_train_start` on.
        """
        with suppress(InvalidInput):
            name_early_weights(timm_model_in(pl_module))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile the plan for the module's model and optimizer; resume if a checkpoint was loaded.

        Raises:
            InvalidInput: as `StagedTraining`; also for another strategy than DDP with several devices, for Lightning's own
                weight averaging, for a checkpoint callback that chooses the best one, and when the Trainer has a limit of its
                own.
        """
        if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
            raise InvalidInput(
                "strategy", type(trainer.strategy).__name__, "must be ddp: stages need whole parameters on each device"
            )
        for callback in trainer.callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.save_top_k != -1:
                reason = (
                    "cannot choose among checkpoints of a staged training: those of early stages were evaluated with smaller "
                    "models; use ModelCheckpoint(monitor=None, save_last=True): the schedule ends with the best model"
                )
                raise InvalidInput("callbacks", f"ModelCheckpoint(monitor={callback.monitor!r})", reason)
            if WEIGHT_AVERAGING_CALLBACKS & {kind.__name__ for kind in type(callback).__mro__}:
                reason = "cannot be used with stages: its average is made for one size of the model; use ema= instead"
                raise InvalidInput("callbacks", type(callback).__name__, reason)
        if trainer.max_epochs != -1 or trainer.max_steps != -1:
            limits = f"{trainer.max_epochs} (max_steps {trainer.max_steps})"
            raise InvalidInput("max_epochs", limits, "both must be -1: training ends when the budget is spent")
        self.training = StagedTraining(timm_model_in(pl_module), trainer.optimizers, self._schedule, **self._settings)
        if self._saved is not None:
            self.training.load_state_dict(self._saved)
        # Called for every checkpoint, also those of weights alone, which no hook of a callback sees.
        trainer.save_checkpoint = partial(self._save_at_full_size, trainer.save_checkpoint)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> int | None:
        """Begin an optimizer step, unless this batch is accumulated to a step that has begun."""
        training = self._running()
        if _updates(trainer) < training.begun or training.step():
            return None
        trainer.should_stop = True
        return -1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after the last step of the plan."""
        training = self._running()
        if training.done and _updates(trainer) >= training.begun:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the model to full size; warn if training ends before the plan does."""
        self._finish(trainer, grow=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Set the model to full size, as after Ctrl-C. A checkpoint that another callback writes then resumes exactly."""
        self._finish(trainer, grow=False)

    def state_dict(self) -> dict[str, Any]:
        """The state of this callback for Lightning's checkpoints."""
        return {"training": self.training.state_dict()} if self.training else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until model and optimizer are loaded."""
        self._saved = state_dict.get("training")

    def _save_at_full_size(self, save: Callable[..., None], *arguments: Any, **options: Any) -> None:
        with self._running().at_full_size():
            save(*arguments, **options)

    def _finish(self, trainer: pl.Trainer, *, grow: bool) -> None:
        if self.training is not None:
            self.training.finish(grow=grow)
        vars(trainer).pop("save_checkpoint", None)

    def _running(self) -> StagedTraining:
        assert self.training is not None
        return self.training


def _updates(trainer: pl.Trainer) -> int:
    """Number of updates of the model; Lightning counts the steps of all optimizers."""
    return trainer.global_step // len(trainer.optimizers)
