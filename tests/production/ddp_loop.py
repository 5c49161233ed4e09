"""A loop of DistributedDataParallel, as users write it, for torchrun: `ddp_loop.py OUT WRAPPED_WHEN STOP`."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from explorer import Rates, Schedule, Stage
from tests.production.loops import same, small, staged

STAGES = Schedule(
    stages=(
        Stage(rates=Rates(heads=0.5, mlp=0.5, depth=0.5), duration_ratio=0.4),
        Stage(rates=Rates(heads=0.5), duration_ratio=0.3),
        Stage(rates=Rates(), duration_ratio=0.3),
    ),
    grid=10,
)


def train(rank: int, count: int, when: str, path: Path | None) -> torch.nn.Module:
    """Train by the schedule; checkpoints at full size are written in mid-stage, into the file."""
    model, _ = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    wrapped = DistributedDataParallel(model) if count > 1 and when != "after" else model
    training = staged(wrapped if when == "given" else model, optimizer, STAGES)
    if count > 1 and when == "after":
        wrapped = DistributedDataParallel(model)
    if when == "hooks":
        training.follow_optimizer()
    while not training.done if when == "hooks" else training.step():
        number = training.begun
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(number))
        labels = torch.arange(8) % 5
        part = slice(rank * 8 // count, (rank + 1) * 8 // count)
        optimizer.zero_grad()
        functional.cross_entropy(wrapped(images[part]), labels[part]).backward()
        optimizer.step()
        if number % 4 == 2 and path and rank == 0:  # one process alone
            with training.at_full_size():
                torch.save(model.state_dict(), path)
    return model


if __name__ == "__main__":
    out, when = Path(sys.argv[1]), sys.argv[2]
    distributed.init_process_group("gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    trained = train(rank, count, when, out / "checkpoint.pt")
    torch.save(trained.state_dict(), out / f"{rank}.pt")
    distributed.destroy_process_group()
