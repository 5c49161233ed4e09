"""A schedule in anyone's training loop: one call before each optimizer step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from explorer.differences import first_difference
from explorer.elastic.step_cost import StepCounter, UnsuitableImagesError
from explorer.errors import InvalidInput, validated
from explorer.plan import Plan, compile_plan
from explorer.production.arguments import (
    average_of,
    check_optimizers,
    check_schedule,
    check_states,
    image_shape_of,
    positive_integer,
    positive_number,
    resizable_model,
    staging_for,
)
from explorer.production.early_weights import name_early_weights
from explorer.production.full_size import FullSize
from explorer.production.optimizer_hooks import follow_optimizer
from explorer.production.training_passes import TrainingPasses
from explorer.production.wrappers import check_wrappers, renew_wrappers, unwrapped, unwrapped_optimizers
from explorer.segment import StepCost
from explorer.spec.base import Frozen
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.staging import Staging
from explorer.training.drop_path import DropPathRates
from explorer.training.staged_model import StagedModel


@dataclass(frozen=True)
class _FullTraining:
    """Full training as the task of a plan (see `PlannedTask`); an epoch is a single batch unless its length is given."""

    epochs: float
    train_images: int
    batch_size: int
    lr_schedule: LearningRateSchedule
    frozen_until: float = 0.0


class _State(Frozen):
    """The content of `StagedTraining.state_dict`."""

    begun: int = Field(ge=0, strict=True)
    plan: str
    """Digest of the plan."""
    orders: dict[str, list[int]]
    """As `StagedModel.subset_orders`."""
    pretrained: bool = False
    """As `StagedModel.pretrained`."""
    ended: bool = False
    """Whether training was ended early, and the model has grown to full size since."""
    staging: Staging | None = None
    """How reduced models were derived; `None` in states of earlier releases."""
    seed: int | None = None
    """Seed of random subsets; `None` in states of earlier releases."""


class StagedTraining:
    """Executes a schedule in any training loop.

        staged = StagedTraining(model, optimizer, schedule, budget="25%", full_steps=epochs * len(loader), batch_size=256)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        while staged.step():
            images, labels = next(batches)
            ...                                    # forward, backward, optimizer.step(), as usual

    `step` resizes the model and the optimizer when a stage begins, and sets the learning rates. The loop ends when the budget
    is spent: staged steps cost less, so there may be more of them than full training has.

    Args:
        model: the timm model, at full size, on its device, or a model that contains one. It may be wrapped, now or later, in
            DistributedDataParallel, which is renewed when the model is resized, and in `torch.compile`, which compiles each
            size.
        optimizer: an optimizer over the model's parameters, or a list of several that divide them. The learning rates of its
            groups (`initial_lr`, if a scheduler wrote it) are the peak learning rates. Accelerate's wrapper may be given, too.
        schedule: stages as shares of the budget, or in epochs. Stochastic depth is changed by stage if the schedule says so;
            augmentation and batch size are not, because the loop reads its own batches.
        budget: a share of full training (`25%`), or FLOPs (`3e17 FLOPs`).
        full_steps: number of optimizer steps of full training.
        batch_size: images per optimizer step: those of all devices and accumulated batches together.
        epoch_steps: number of optimizer steps per epoch; required for a schedule in epochs alone.
        lr_schedule: learning-rate schedule over budget time. `None` leaves the optimizer's learning rates unchanged, and
            `factor` tells what they should be.
        image_shape: channels, height and width of full images; `None`: as the model's `pretrained_cfg` says. The first images
            in training are compared with it: others are refused if it is `None`, and warned of if it is given.
        ema: an average of the model's weights, which is resized with it: timm's ModelEmaV3, torch's AveragedModel, or the
            `module` within one. It must have been made from this model before training.
        staging: how reduced models are derived from the full model; `None`: as the schedule says, or by default.
        seed: seed of random subsets.

    Raises:
        InvalidInput: when the model lacks an axis of the schedule, a stage has a batch size or an augmentation of its own, its
            epochs cost more than the budget, the schedule was made for another staging, the budget is smaller than one step,
            the optimizer was not built for this model or wraps another one, `ema` averages another model, or an argument has
            the wrong type or is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        schedule: Schedule,
        *,
        budget: str | float | Budget,
        full_steps: float,
        batch_size: int,
        epoch_steps: float | None = None,
        lr_schedule: LearningRateSchedule | None = LearningRateSchedule(),  # noqa: B008 (frozen)
        image_shape: tuple[int, int, int] | None = None,
        ema: nn.Module | None = None,
        staging: Staging | None = None,
        seed: int = 0,
    ) -> None:
        model = resizable_model(unwrapped(model))
        schedule = check_schedule(schedule)
        steps = positive_number("full_steps", full_steps, "the optimizer steps of full training")
        images = positive_integer("batch_size", batch_size)
        if not isinstance(lr_schedule, LearningRateSchedule | None):
            raise InvalidInput("lr_schedule", lr_schedule, "must be a LearningRateSchedule or None")
        staging = staging_for(schedule, staging)
        epochs, epoch_images = steps, images
        if epoch_steps is not None:
            steps_per_epoch = positive_number("epoch_steps", epoch_steps, "the optimizer steps of an epoch")
            epochs, epoch_images = steps / steps_per_epoch, round(steps_per_epoch * images)
        elif schedule.in_epochs:
            raise InvalidInput("epoch_steps", None, "is required for a schedule in epochs: the optimizer steps of an epoch")
        optimizers = unwrapped_optimizers(optimizer)
        check_optimizers(optimizers, model)
        shape_CHW = image_shape_of(model, image_shape)
        self._slices_weights = any(stage.rates.reduces(axis) for stage in schedule.stages for axis in ("heads", "mlp"))
        if self._slices_weights:
            check_states(optimizers)
        average = average_of(model, ema) if ema is not None else None
        try:
            self._staged = StagedModel(model, optimizers, average, staging=staging, image_size=shape_CHW[1:], seed=seed)
        except InvalidInput:
            raise
        except ValueError as error:
            raise InvalidInput("model", type(model).__name__, str(error)) from None
        self.full_size = FullSize(self._staged)  # for the integrations of this package
        name_early_weights(model)
        self._drop_path = DropPathRates(model)
        self.image_shape = shape_CHW
        """Channels, height and width of full images."""
        self.full_steps = steps
        """Number of optimizer steps of full training."""
        self.epoch_steps = epoch_steps
        """Number of optimizer steps per epoch; `None` if it was not given."""
        self.staging = staging
        """How reduced models are derived from the full model."""
        self._seed = seed
        self.lr_schedule = lr_schedule
        """Learning-rate schedule over budget time; `None` if the optimizer's learning rates are left as they are."""
        self._sets_learning_rates = lr_schedule is not None
        self._assumes_image_shape = image_shape is None
        self._passes: TrainingPasses | None = None
        self._ended = False
        counter = StepCounter.of_copy(model, staging, shape_CHW)

        def step_cost(rates: Rates) -> StepCost:
            try:
                return counter.step_cost(rates, images)
            except UnsuitableImagesError as error:
                reason = f"the model cannot process such images: {error}"
                raise InvalidInput("image_shape", shape_CHW, reason) from None

        task = _FullTraining(epochs, epoch_images, images, lr_schedule or LearningRateSchedule())
        parsed = Budget.parse(budget)
        if parsed.unit == "GMACs-epochs" and epoch_steps is None:
            raise InvalidInput("epoch_steps", None, f"is required for the budget {parsed}: the optimizer steps of an epoch")
        self.plan: Plan = compile_plan(schedule, task, parsed, step_cost)
        """The plan that is executed: `plan.steps`, `plan.cost`, `plan.stages()`."""
        requested = {segment.requested for segment in self.plan.segments}
        self._image_sizes = {rates: counter.elastic.training_image_size(rates) for rates in requested}
        self.begun = 0
        """Number of optimizer steps that have begun."""
        self.resized = False
        """Whether the last call of `step` resized the model."""
        self._peaks: list[list[float]] = [[] for _ in optimizers]
        self._note_peaks()
        for each in optimizers:
            each.register_step_pre_hook(self._drop_gradients_of_sleeping_blocks)

    @property
    def model(self) -> nn.Module:
        """The timm model."""
        return self._staged.model

    @property
    def average(self) -> nn.Module | None:
        """The timm model within the average of the weights; `None` if there is none."""
        return self._staged.average

    @property
    def peak_learning_rates(self) -> Sequence[float]:
        """Peak learning rate of each parameter group of all optimizers, in order."""
        self._note_peaks()
        return [peak for peaks in self._peaks for peak in peaks]

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """The optimizers."""
        return self._staged.optimizers

    @property
    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.begun >= self.plan.steps

    @property
    def in_last_stage(self) -> bool:
        """Whether the step that has begun last is one of the last stage: earlier results are those of smaller models."""
        segment, _ = self.plan.position(max(0, self.begun - 1))
        return segment.stage == self.plan.segments[-1].stage

    @property
    def rates(self) -> Rates:
        """The realised rates that the model has now."""
        return self._staged.rates

    @property
    def spent(self) -> float:
        """Budget time, in [0, 1]: the cost of the steps that have begun, as a fraction of the budget."""
        if not self.begun:
            return 0.0
        segment, step = self.plan.position(self.begun - 1)
        return segment.start_time + (segment.end_time - segment.start_time) * (step + 1) / segment.steps

    @property
    def factor(self) -> float:
        """Factor on the peak learning rates, in [0, 1], for the step that has begun last."""
        segment, step = self.plan.position(max(0, self.begun - 1))
        return segment.learning_rate_factor(step)

    def step(self) -> bool:
        """Begin an optimizer step: resize the model if a stage begins, and set the learning rates.

        With accumulated gradients, call it before the first of the batches: a stage change clears gradients.

        Returns:
            False when the budget is spent; nothing was changed then.

        Raises:
            InvalidInput: in the second step, when the state that the optimizer has made cannot be resized, or the images do not
                have the size that the model is published for and `image_shape` was not given; in any step, when the stage makes
                images smaller and the loop has not called the model itself, but `forward_features` or another of its methods,
                or when the stage drops tokens and the model was updated in evaluation mode.
        """
        self.resized = False
        if self.done or self._ended:
            self._end_notes()
            return False
        if self._slices_weights and self.begun == 1:
            check_states(self.optimizers)
        if self._passes is not None:
            size = self._image_sizes.get(self._staged.requested)
            self._passes.check(size, drops_tokens=size is None and self._staged.requested.reduces("tokens"))
        self._begin_notes()
        self.begun += 1
        segment, _ = self.plan.position(self.begun - 1)
        self.resized = self._set_rates(segment.requested)
        self._drop_path.set_share(segment.augmentation.drop_path)
        self.set_learning_rates(self.factor)
        return True

    def follow_optimizer(self) -> None:
        """Execute the schedule by hooks, in a loop that cannot be changed and does not call `step`.

        To be called once, before training; when resuming, after `load_state_dict`. A step begins with the model's first forward
        pass in training mode after an optimizer step, so an evaluation or a checkpoint in between sees the model that was
        trained. Accumulated batches are one step. Learning rates are set immediately before each optimizer step and replace
        those of a scheduler. An update that a gradient scaler skips is repeated at the same position of the plan.

        The loop has to call the model itself: no step can begin in one that calls only `forward_features` or another of its
        methods, or trains in evaluation mode, and its second optimizer step raises `InvalidInput`.

        Such a loop ends when it chooses to: optimizer steps beyond the plan have a learning rate of zero.
        """
        follow_optimizer(self)

    def set_learning_rates(self, factor: float) -> None:
        """Set the optimizer's learning rates to a factor of their peaks, unless `lr_schedule` is `None`."""
        if self._sets_learning_rates:
            groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]  # loading replaces them
            for group, peak in zip(groups, self.peak_learning_rates, strict=True):
                group["lr"] = peak * factor

    def _note_peaks(self) -> None:
        """Note the peak learning rates of groups that are new; some are added during training (`add_param_group`)."""
        for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
            for group in optimizer.param_groups[len(peaks) :]:
                # Kept in the optimizer's state; schedulers of torch and timm write it too.
                peaks.append(group.setdefault("initial_lr", group["lr"]) * group.get("lr_scale", 1.0))

    def at_full_size(self) -> AbstractContextManager[None]:
        """Set model, optimizer and average to full size within a context, to save or evaluate the whole model.

        Checkpoints must be written (or copied) within it, between two optimizer steps: states of a resized model lack the
        inactive entries, and tensors that are only referred to are resized again afterwards.
        """
        return self.full_size.at_once()

    def _begin_notes(self) -> None:
        if self._passes is None:
            check_wrappers(self.model)
            assumed = self._assumes_image_shape
            self._passes = TrainingPasses(self.model, self.optimizers, self.image_shape, assumed=assumed)

    def _end_notes(self) -> None:
        if self._passes is not None:
            self._passes.remove()

    def _set_rates(self, requested: Rates, *, grow: bool = True) -> bool:
        """Resize the model with its wrappers; whether it was resized."""
        if not self._staged.set_rates(requested, grow=grow):
            return False
        renew_wrappers(self.model)
        self.full_size.warn_of_parts()
        return True

    def _drop_gradients_of_sleeping_blocks(self, *_: Any) -> None:
        """A gradient of zero, as some loops make it, would let weight decay and moments change such a block."""
        for parameter in self._staged.sleeping_parameters:
            parameter.grad = None

    def finish(self, *, grow: bool = True) -> None:
        """End training, whether or not the budget is spent: the model is at full size from now on.

        After an early end, a warning says how far training came. The integrations call this however training ends; a loop of
        your own needs it only where it ends early.

        Args:
            grow: whether what is newly active starts as at the beginning of a stage, for a model that will be used; training
                cannot go on then. `False` leaves it as it was, so that a checkpoint of it resumes exactly.
        """
        if not self.done:
            reason = "the learning rate has not decayed to its end" if self._sets_learning_rates else "the budget is not spent"
            text = f"training ended at step {self.begun} of the {self.plan.steps} of its schedule: {reason}"
            warnings.warn(text, stacklevel=2)
        self._end_notes()
        self._ended = self._set_rates(Rates(), grow=grow) and grow

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule, as plain data. The states of model, optimizer and average are saved separately."""
        return {
            "begun": self.begun,
            "plan": self.plan.digest(),
            "orders": self._staged.subset_orders,
            "pretrained": self._staged.pretrained,
            "staging": self.staging.model_dump(mode="json"),
            "seed": self._seed,
            **({"ended": True} if self._ended else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume between the steps where a state was taken.

        To be called last, when model, optimizer and average have been loaded at full size.

        Raises:
            InvalidInput: when the state belongs to another plan (another schedule, budget, model, batch size or `full_steps`)
                or to another `staging`, or was not returned by `state_dict`; for random subsets, also to another `seed`.
        """
        saved = validated(_State, state, "state")
        if saved.plan != self.plan.digest():
            raise InvalidInput("state", "plan", "belongs to another schedule, budget, model, batch size or full_steps")
        if saved.ended:
            reason = f"was ended at step {saved.begun}, and the model grew to full size: resume from an earlier checkpoint"
            raise InvalidInput("state", "ended", reason)
        if saved.begun > self.plan.steps:
            raise InvalidInput("state: begun", saved.begun, f"must be at most {self.plan.steps}, the steps of the plan")
        now = self.staging.model_dump()
        if saved.staging and (difference := first_difference(saved.staging.model_dump(), now)):
            reason = f"belongs to another staging: {difference.field} was {difference.before!r} and is now {difference.after!r}"
            raise InvalidInput("state", "staging", reason)
        if saved.seed not in (None, self._seed) and self.staging.subset == "random":
            raise InvalidInput("state: seed", saved.seed, f"belongs to other random subsets: the seed is now {self._seed}")
        if _sorted(saved.orders) != _sorted(self._staged.subset_orders):
            raise InvalidInput("state", "orders", "belongs to another staging.subset")
        self.begun = saved.begun
        self._staged.subset_orders = saved.orders
        self._staged.pretrained = saved.pretrained
        if self.begun:
            segment, _ = self.plan.position(self.begun - 1)
            self._set_rates(segment.requested, grow=False)
            self._drop_path.set_share(segment.augmentation.drop_path)
            self._begin_notes()


def _sorted(orders: dict[str, list[int]]) -> dict[str, list[int]]:
    """What is ordered, without the order."""
    return {name: sorted(order) for name, order in orders.items()}
