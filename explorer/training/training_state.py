"""The state of a training run in this process: the staged model, its wrappers, random generators and the number of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.segment import Segment
from explorer.spec.rates import Rates
from explorer.training.checkpoint import random_state, restore_random_state
from explorer.training.compilation import can_compile, compile_blocks, compiled_whole
from explorer.training.distributed import Processes
from explorer.training.drop_path import DropPathRates
from explorer.training.frozen_parts import FrozenParameters
from explorer.training.staged_model import StagedModel
from explorer.training.task import Task

STATISTICS = ("running_mean", "running_var")
"""Names of buffers that training changes."""


class TrainingState:
    """A task's model on its device, with its optimizer and the average of its weights.

    Args:
        task: model, recipe and staging.
        seed: seed of the weights' initialization and of random subsets.
        device: where to train.
        processes: the processes that train this model together.
    """

    def __init__(self, task: Task, seed: int, device: torch.device, processes: Processes) -> None:
        recipe = task.spec.recipe
        torch.manual_seed(seed)
        model = task.build_model().to(device).train()
        optimizer = task.build_optimizer(model)
        self._average = ModelEmaV3(model, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self._staged = StagedModel(
            model,
            optimizer,
            self._average.module if self._average else None,
            staging=task.spec.staging,
            image_size=task.data.image_size,
            seed=seed,
        )
        if task.spec.model.checkpoint is not None:
            self._staged.pretrained = True
        self._drop_path = DropPathRates(model)
        self._frozen = FrozenParameters(model, recipe.frozen)
        wanted = recipe.compile if recipe.compile != "auto" else False
        self._compile, self.processes = wanted if wanted and can_compile(device.type) else False, processes
        self._wrapped: nn.Module | None = None
        self.scaler = torch.amp.GradScaler(device.type, enabled=task.precision(device) == "fp16")
        """Scales the loss in fp16; otherwise it changes nothing."""
        self.skipped_updates = 0
        """Number of steps whose gradients were not finite in fp16."""
        self._steps = 0
        if not processes.is_main:  # the same weights, but other random numbers: dropout, dropped tokens
            torch.manual_seed(seed + processes.rank)

    @property
    def model(self) -> nn.Module:
        """The timm model at its present size, not wrapped."""
        return self._staged.model

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer over the model's parameters."""
        return self._staged.optimizer

    @property
    def is_cold(self) -> bool:
        """Whether the next step wraps the model anew, and compiles it if the recipe says so."""
        return self._wrapped is None

    @property
    def is_compiled(self) -> bool:
        """Whether the model is compiled: the recipe says so, and this machine can."""
        return bool(self._compile)

    @property
    def uses_cuda_graphs(self) -> bool:
        """Whether the model is compiled with CUDA graphs at its present size: if the recipe says so, below full size."""
        return self._compile == "reduce-overhead" and not self._staged.requested.full

    @property
    def wrapped_model(self) -> nn.Module:
        """The model to train with: gradients are averaged over processes, and it is compiled if the recipe says so."""
        if self._wrapped is None:
            whole = self._compile and (self.uses_cuda_graphs or not compile_blocks(self.model))
            wrapped = self.processes.wrapped(self.model)
            self._wrapped = compiled_whole(wrapped, cuda_graphs=self.uses_cuda_graphs) if whole else wrapped
        return self._wrapped

    @property
    def result(self) -> nn.Module:
        """The model to evaluate and keep: the average if there is one."""
        return self.model if self._staged.average is None else self._staged.average

    @property
    def is_finite(self) -> bool:
        """Whether weights, statistics of batches, the optimizer's state and the average of the weights are finite numbers."""
        models = [self.model, *([self._staged.average] if self._staged.average is not None else [])]
        tensors = [parameter.detach() for model in models for parameter in model.parameters()]
        tensors += [buffer for model in models for name, buffer in model.named_buffers() if name.endswith(STATISTICS)]
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors += [value for value in states if isinstance(value, Tensor) and value.is_floating_point()]
        by_device = [torch.stack([each.isfinite().all() for each in group]).all() for group in _by_device(tensors)]
        return all(bool(finite) for finite in by_device)

    def begin(self, segment: Segment) -> None:
        """Set what a segment trains with: its rates, its share of stochastic depth, and whether parts are frozen."""
        self.set_rates(segment.requested)  # first: what was frozen before the segment grows with its own weights
        changed = self._drop_path.set_share(segment.augmentation.drop_path), self._frozen.set(segment.frozen)
        if any(changed):
            self._wrapped = None

    def set_rates(self, requested: Rates, *, grow: bool = True) -> None:
        """Resize; see `StagedModel.set_rates`."""
        if self._staged.set_rates(requested, grow=grow):
            self._wrapped = None

    def update(self) -> None:
        """Make an optimizer step with the gradients, count it, and update the average.

        In fp16, a step whose gradients are not finite changes nothing but the scale of the loss. It counts as a step, which the
        plan has paid for, and in `skipped_updates`.
        """
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_updates += self.scaler.get_scale() < scale
        self._steps += 1
        if self._average:
            self._average.update(self.model, self._steps)

    @contextmanager
    def content(self) -> Iterator[dict[str, Any]]:
        """The whole state at full size, as plain data and tensors that are valid within the context.

        Every process has to call this.
        """
        random = self.processes.all_gather(random_state())
        with self._staged.at_full_size():
            scaled = {"scaler": self.scaler.state_dict(), "skipped_updates": self.skipped_updates}
            trained = self._staged.state_dict() | (scaled if self.scaler.is_enabled() else {})
            yield {**trained, "steps": self._steps, "random": random}

    def restore(self, content: dict[str, Any], segment: Segment) -> None:
        """Resume from a `content` that was taken within a segment or at its end, by any number of processes."""
        self._staged.load_state_dict(content)
        self._steps = content["steps"]
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
            self.skipped_updates = content["skipped_updates"]
        if self.processes.rank < len(content["random"]):  # others keep the random numbers that they began with
            restore_random_state(content["random"][self.processes.rank])
        # What grows at the next stage change is what would have grown without the interruption.
        self.set_rates(segment.requested, grow=False)
        self._frozen.set(segment.frozen)


def _by_device(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """The tensors of each device: some optimizers keep numbers of steps on the CPU."""
    groups: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.device, []).append(tensor)
    return list(groups.values())
