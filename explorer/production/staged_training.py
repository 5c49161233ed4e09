"""A schedule in anyone's training loop: one call before each optimizer step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel
from explorer.errors import InvalidInput, validated
from explorer.plan import Plan, Segment, StepCost, compile_plan
from explorer.production.arguments import average_of, check_optimizer, check_state, number
from explorer.spec.base import Frozen
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.staging import BlockSubset, Growth, Staging, SubsetChoice, TokenPolicy


@dataclass(frozen=True)
class _Steps:
    """Full training as so many steps of so many images: what a plan is compiled for."""

    epochs: float
    train_images: int
    batch_size: int
    lr_schedule: LearningRateSchedule


class _State(Frozen):
    """What `StagedTraining.state_dict` gives."""

    begun: int = Field(ge=0, strict=True)
    plan: str
    orders: dict[str, list[int]]


class StagedTraining:
    """Executes a schedule in a loop that is not ours.

        staged = StagedTraining(model, optimizer, schedule, budget="25%", full_steps=epochs * len(loader), batch_size=256)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        while staged.step():
            images, labels = next(batches)
            ...                                    # forward, backward, optimizer.step(), as ever

    `step` resizes the model and the optimizer when a stage begins and sets the learning rates. The loop ends when the
    budget is spent: staged steps are cheaper, so there may be more of them than full training has.

    Args:
        model: the timm model, at full size, on its device; not wrapped (DDP, torch.compile): wrappers are made for one size.
        optimizer: over its parameters. Its groups' learning rates (`initial_lr` where a scheduler wrote it) are the peaks.
        schedule: stages as shares of the budget.
        budget: a share of full training (`25%`) or `3e17 FLOPs`.
        full_steps: optimizer steps of full training.
        batch_size: images an optimizer step, those of all devices and accumulated batches together.
        lr_schedule: the learning rate over budget time; None: the optimizer's rates are left alone, and `factor` says what they
            should be.
        image_shape: channels, height and width of full images; None: as the model's `pretrained_cfg` says.
        ema: an average of the model's weights, resized along: timm's ModelEmaV3 or torch's AveragedModel, or the `module` in
            it. Made of this model, before training.
        subset: which heads and channels are active; see `explorer.elastic.ElasticModel`, as for the four below.
        growth: how entries start that were not active before.
        token_policy: how tokens become fewer.
        blocks: which blocks are active where the depth is reduced.
        seed: of a random subset.

    Raises:
        InvalidInput: when the model lacks an axis of the schedule, the budget holds no step, the optimizer was not built on
            this model or wraps another one, `ema` averages another model, or an argument is of another kind or out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        budget: str | float | Budget,
        full_steps: float,
        batch_size: int = 1,
        lr_schedule: LearningRateSchedule | None = LearningRateSchedule(),  # noqa: B008 (frozen)
        image_shape: tuple[int, int, int] | None = None,
        ema: nn.Module | None = None,
        subset: SubsetChoice = "leading",
        growth: Growth = "initial",
        token_policy: TokenPolicy = "auto",
        blocks: BlockSubset = "prefix",
        seed: int = 0,
    ) -> None:
        if isinstance(model, DistributedDataParallel | DataParallel | torch._dynamo.OptimizedModule):
            raise InvalidInput(
                "model", type(model).__name__, "give the model inside it, and wrap it anew whenever it was resized"
            )
        if not isinstance(schedule, Schedule):
            raise InvalidInput("schedule", schedule, "must be a Schedule, such as Schedule.load(path) gives")
        steps = number("full_steps", full_steps, Real, "must be a number above 0: the optimizer steps of full training")
        images = number("batch_size", batch_size, Integral, "must be a whole number, at least 1")
        if not isinstance(lr_schedule, LearningRateSchedule | None):
            raise InvalidInput("lr_schedule", lr_schedule, "must be a LearningRateSchedule or None")
        check_optimizer(optimizer, model)
        shape = getattr(model, "pretrained_cfg", {}).get("input_size") if image_shape is None else image_shape
        if shape is None:
            raise InvalidInput("image_shape", None, "is needed: this model does not tell the size of its images")
        if not isinstance(shape, Sequence) or len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise InvalidInput("image_shape", shape, "must be three whole numbers: channels, height and width")
        channels, height, width = shape
        chosen = {"subset": subset, "growth": growth, "token_policy": token_policy, "blocks": blocks}
        staging = validated(Staging, chosen, "StagedTraining")
        settings: dict[str, Any] = {"staging": staging, "seed": seed, "image_size": (height, width)}
        self.optimizer = optimizer
        self._slices = any(stage.rates.heads < 1 or stage.rates.mlp < 1 for stage in schedule.stages)
        if self._slices:
            check_state(optimizer)
        self._elastic = ElasticModel(model, **settings)
        self._averaged = ElasticModel(average_of(model, ema), **settings) if ema is not None else None
        self._sets_rates = lr_schedule is not None
        task = _Steps(steps, images, images, lr_schedule or LearningRateSchedule())
        step_cost = _step_cost(model, settings, (channels, height, width), images)
        self.plan: Plan = compile_plan(schedule, task, Budget.parse(budget), step_cost)
        """What will be executed: `plan.steps`, `plan.cost`, `plan.stages()`."""
        self.begun = 0
        """Optimizer steps that have begun."""
        self.resized = False
        """Whether the last call of `step` resized the model: wrappers must then be made anew."""
        for group in optimizer.param_groups:  # kept in the optimizer's state; schedulers of torch and timm write it too
            group.setdefault("initial_lr", group["lr"])
        self._peaks = [group["initial_lr"] * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
        self._ends = _ends(self.plan)

    @property
    def done(self) -> bool:
        """True when the budget is spent."""
        return self.begun >= self.plan.steps

    @property
    def rates(self) -> Rates:
        """The realised rates that the model has now."""
        return self._elastic.rates

    @property
    def spent(self) -> float:
        """Budget time: the cost of the steps that have begun over the budget, in [0, 1]."""
        if not self.begun:
            return 0.0
        segment, step = self._position(self.begun)
        return segment.start_time + (segment.end_time - segment.start_time) * (step + 1) / segment.steps

    @property
    def factor(self) -> float:
        """Factor on the peak learning rates, in [0, 1], of the step that has begun last."""
        segment, step = self._position(max(1, self.begun))
        return segment.learning_rate_factor(step)

    def step(self) -> bool:
        """Begin an optimizer step: resize where a stage begins, set the learning rates.

        With accumulated gradients, call it before the first of the batches: a change of stage clears gradients.

        Returns:
            False when the budget is spent; nothing was changed then.

        Raises:
            InvalidInput: in the second step, when the state that the optimizer has made cannot be resized.
        """
        self.resized = False
        if self.done:
            return False
        if self._slices and self.begun == 1:
            check_state(self.optimizer)
        self.begun += 1
        segment, _ = self._position(self.begun)
        if segment.requested != self._elastic.requested:
            self._set(segment.requested, grow=True)
            self.resized = True
        self._set_learning_rates(self.factor)
        return True

    def follow_optimizer(self) -> None:
        """Execute the schedule by hooks, in a loop that cannot be changed and calls no `step`.

        To be called once, before training; after `load_state_dict` where training goes on. A step begins with the model's first
        training forward after an optimizer step, so that an evaluation or a checkpoint in between sees the model that was
        trained. Accumulated batches are one step. Learning rates are set right before each optimizer step, whatever a
        scheduler wrote. An update that a gradient scaler skips is tried again at the same place of the plan.

        Such a loop ends when it wants: optimizer steps beyond the plan have a learning rate of zero.
        """
        awaited, beyond = not self.begun, False
        if awaited:
            self.step()

        def begin(model: nn.Module, _: Any) -> None:
            nonlocal awaited, beyond
            if model.training and not awaited:
                awaited, beyond = True, not self.step()

        def set_learning_rates(*_: Any) -> None:
            self._set_learning_rates(0.0 if beyond else self.factor)

        def note_update(*_: Any) -> None:
            nonlocal awaited
            awaited = False

        # First of all hooks: another one makes images smaller, for the size that the model then has.
        self._elastic.model.register_forward_pre_hook(begin, prepend=True)
        self.optimizer.register_step_pre_hook(set_learning_rates)
        self.optimizer.register_step_post_hook(note_update)

    def _set_learning_rates(self, factor: float) -> None:
        if self._sets_rates:
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * factor

    @contextmanager
    def at_full_size(self) -> Iterator[None]:
        """Model, optimizer and average at full size for a moment, to save or evaluate all of it.

        Checkpoints are to be written (or copied) in here, between two optimizer steps: states of a resized model lack what is
        not active, and states that are only referred to become small again.
        """
        with ExitStack() as stack:
            stack.enter_context(self._elastic.at_full_size(self.optimizer))
            if self._averaged is not None:
                stack.enter_context(self._averaged.at_full_size())
            yield

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs beside the states of model, optimizer and average at full size: plain data."""
        return {"begun": self.begun, "plan": self.plan.digest(), "orders": self._elastic.subset_orders}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on between the steps where the state was taken.

        To be called last, when model, optimizer and average have been loaded at full size.

        Raises:
            InvalidInput: when the state is of another plan: another schedule, budget, model, batch size or `full_steps`; when
                it is of another `subset`, or not what `state_dict` gives.
        """
        kept = validated(_State, state, "state")
        if kept.plan != self.plan.digest():
            raise InvalidInput("state", "plan", "is of another schedule, budget, model, batch size or full_steps")
        if kept.begun > self.plan.steps:
            raise InvalidInput("state: begun", kept.begun, f"must be at most {self.plan.steps}, the steps of the plan")
        if _numbers(kept.orders) != _numbers(self._elastic.subset_orders):
            raise InvalidInput("state", "orders", "is of another subset")
        self.begun = kept.begun
        for elastic in filter(None, (self._elastic, self._averaged)):
            elastic.subset_orders = kept.orders
        if self.begun:
            self._set(self._position(self.begun)[0].requested, grow=False)

    def _set(self, rates: Rates, *, grow: bool) -> None:
        self._elastic.set_rates(rates, self.optimizer, grow=grow)
        if self._averaged is not None:
            self._averaged.set_rates(rates, grow=grow)

    def _position(self, begun: int) -> tuple[Segment, int]:
        """The segment of a step (1-based) and its number in it (0-based)."""
        for segment, end in zip(self.plan.segments, self._ends, strict=True):
            if begun <= end:
                return segment, begun - 1 - (end - segment.steps)
        raise IndexError(begun)


def _numbers(orders: dict[str, list[int]]) -> dict[str, list[int]]:
    """What is ordered, without the order."""
    return {name: sorted(order) for name, order in orders.items()}


def _ends(compiled: Plan) -> list[int]:
    """For each segment, the steps done when it ends."""
    ends, done = [], 0
    for segment in compiled.segments:
        done += segment.steps
        ends.append(done)
    return ends


def _step_cost(model: nn.Module, settings: dict[str, Any], shape: tuple[int, int, int], batch_size: int) -> Any:
    """Counts a step at given rates on a copy of the model without memory."""
    counted = ElasticModel(copy.deepcopy(model).to("meta").train(), **settings)

    def cost(rates: Rates) -> StepCost:
        realised = counted.set_rates(rates)
        try:
            flops = count_step_flops(counted.model, (2, *shape)) // 2
        except (RuntimeError, AssertionError, ValueError) as error:
            raise InvalidInput("image_shape", shape, f"the model cannot process such images: {error}") from None
        return StepCost(realised, flops * batch_size)

    return cost
