"""What training changes: model, optimizer, average of the weights. Resized, saved and restored together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from explorer.spec.rates import Rates
from explorer.training.checkpoint import random_state, restore_random_state
from explorer.training.distributed import Processes
from explorer.training.task import Task


class TrainingState:
    """A task's model on its device, with all that is trained along.

    Args:
        task: model, recipe and staging.
        seed: of the initialisation and of random subsets.
        device: where to train.
        processes: that train the same model.
    """

    def __init__(self, task: Task, seed: int, device: torch.device, processes: Processes) -> None:
        recipe = task.spec.recipe
        torch.manual_seed(seed)
        self.model = task.build_model().to(device).train()
        self.optimizer = task.build_optimizer(self.model)
        self._average = ModelEmaV3(self.model, recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self._elastic = task.elastic(self.model, seed)
        self._averaged = task.elastic(self._average.module, seed) if self._average else None
        self._compiles, self._processes = recipe.compile, processes
        self._wrapped: nn.Module | None = None
        self._steps = 0
        if processes.rank:  # same weights, other random numbers: dropout, dropped tokens
            torch.manual_seed(seed + processes.rank)

    @property
    def trained(self) -> nn.Module:
        """The model as steps see it: with the processes' gradients averaged, compiled."""
        if self._wrapped is not None:
            return self._wrapped
        wrapped = self._processes.wrapped(self.model)
        if self._compiles:
            # Sizes are constants within a stage: a compiler that guesses at dynamic ones is slower.
            wrapped = torch.compile(wrapped, dynamic=False)  # type: ignore[assignment]
        self._wrapped = wrapped
        return wrapped

    @property
    def result(self) -> nn.Module:
        """The model to evaluate and keep: the average where there is one."""
        return self._average.module if self._average else self.model

    @property
    def requested(self) -> Rates:
        """The rates it was last set to."""
        return self._elastic.requested

    def set_rates(self, requested: Rates, *, grow: bool = True) -> None:
        """Resize; nothing where the rates are the same. See `ElasticModel.set_rates`."""
        if requested == self.requested:
            return
        self._wrapped = None
        self._elastic.set_rates(requested, self.optimizer, grow=grow)
        if self._averaged:
            self._averaged.set_rates(requested, grow=grow)

    def stepped(self) -> None:
        """To be called after each optimizer step: the average follows."""
        self._steps += 1
        if self._average:
            self._average.update(self.model, self._steps)

    @contextmanager
    def content(self) -> Iterator[dict[str, Any]]:
        """All of it at full size, as plain data and tensors that are valid within the context. Every worker has to call."""
        random = self._processes.all_gather(random_state())
        with ExitStack() as stack:
            stack.enter_context(self._elastic.at_full_size(self.optimizer))
            if self._averaged:
                stack.enter_context(self._averaged.at_full_size())
            yield {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self._average.module.state_dict() if self._average else None,
                "steps": self._steps,
                "random": random,
            }
        if self._processes.count > 1:
            self._wrapped = None  # it holds on to what resizing replaces

    def restore(self, content: dict[str, Any], requested: Rates) -> None:
        """Go on from a `content` that was taken at these rates."""
        self.model.load_state_dict(content["model"])
        if self._average:
            self._average.module.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self._steps = content["steps"]
        restore_random_state(content["random"][self._processes.rank])
        # What grows at the next change is what grew in a run without a stop.
        self.set_rates(requested, grow=False)
