"""Several processes that train one model, each on its slice of every batch (torch's DistributedDataParallel)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from explorer.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train a model together, and this process's place among them."""

    rank: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """Number of processes."""

    @classmethod
    def here(cls) -> Processes:
        """The processes of torch's process group; a single process if there is none."""
        if not distributed.is_initialized():
            return SINGLE_PROCESS
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def local_slice(self, images: int) -> slice:
        """This process's slice of a batch.

        Args:
            images: number of images in the batch.

        Raises:
            InvalidInput: when the batch cannot be divided equally: the mean of the processes' mean losses would not be the
                mean over the batch.
        """
        if images % self.count:
            raise InvalidInput("recipe.batch_size", images, f"must be a multiple of the {self.count} processes")
        each = images // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over processes. It must be wrapped again after each resize."""
        if self.count == 1:
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum over processes. Every process has to call this."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, in order of rank. Every process has to call this."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def broadcast(self, value: T) -> T:
        """The main process's value. Every process has to call this."""
        return self.all_gather(value)[0]


SINGLE_PROCESS = Processes()


def torchrun_processes() -> int:
    """Number of processes that `torchrun` started; 1 if it started none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def torchrun(cuda: bool) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, for the duration of the context; a single process if it started none.

    Args:
        cuda: whether each process trains on its own GPU (NCCL) or on the CPU (gloo).
    """
    if torchrun_processes() == 1:
        yield SINGLE_PROCESS
        return
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes.here()
    finally:
        distributed.destroy_process_group()
