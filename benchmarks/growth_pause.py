"""How long training pauses when the model grows: deit_small on two processes of the CPU, one thread each, with gloo.

    python benchmarks/growth_pause.py --repeats 5     ten minutes on two cores with other work

The pause is the call of `StagedTraining.step` that begins the last stage: model and AdamW's state are resized, and
DistributedDataParallel is renewed. Beside it: an ordinary step of the full model, and entering and leaving
`StagedTraining.at_full_size` in the first stage, as for a checkpoint (without writing it).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from explorer import Rates, Schedule, Stage, StagedTraining

PROCESSES = 2
GROWTHS = {"heads and MLP from .5 to 1": Rates(heads=0.5, mlp=0.5), "depth from .5 to 1": Rates(depth=0.5)}
MEASURED = ("pause", "full step", "at full size and back")


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append the seconds of a block that all processes begin together."""
    distributed.barrier()
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)


def measure(rates: Rates, model_name: str, batch_size: int, seconds: dict[str, list[float]]) -> None:
    """Train a step at reduced rates, grow, and train at full size.

    Args:
        rates: those of the first stage, which has a single step.
        model_name: a timm model.
        batch_size: images per step of all processes together.
        seconds: lists to which what is `MEASURED` is appended.
    """
    torch.manual_seed(0)
    model = timm.create_model(model_name, num_classes=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    stages = (Stage(rates=rates, duration_ratio=0.2), Stage(rates=Rates(), duration_ratio=0.8))
    schedule = Schedule(stages=stages, grid=10)
    training = StagedTraining(model, optimizer, schedule, budget="100%", full_steps=3, batch_size=batch_size)
    wrapped = DistributedDataParallel(model)
    images, labels = torch.randn(batch_size // PROCESSES, 3, 224, 224), torch.arange(batch_size // PROCESSES)
    while not training.done:
        before = training.rates
        call: list[float] = []
        with timed(call):
            training.step()
        if training.resized and training.begun > 1:
            assert before != training.rates == Rates()
            seconds["pause"] += call
        full = training.rates == Rates()
        with timed(seconds["full step"] if full else []):
            cross_entropy(wrapped(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        if not full:
            with timed(seconds["at full size and back"]), training.at_full_size():
                pass


def process(rank: int, folder: str, given: argparse.Namespace) -> None:
    """One of the processes: writes what it measured to a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    measured: dict[str, dict[str, list[float]]] = {growth: {name: [] for name in MEASURED} for growth in GROWTHS}
    for _ in range(given.repeats):
        for growth, rates in GROWTHS.items():
            measure(rates, given.model, given.batch, measured[growth])
    Path(folder, f"{rank}.json").write_text(json.dumps(measured), encoding="utf-8")
    distributed.destroy_process_group()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="images per step, of all processes together")
    parser.add_argument("--model", default="deit_small_patch16_224")
    given = parser.parse_args()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(process, (folder, given), nprocs=PROCESSES)
        by_rank = [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(PROCESSES)]
    load.append(os.getloadavg()[0])
    print(f"{given.model}, batches of {given.batch} on {PROCESSES} processes")
    print("seconds: median (minimum) of process 0, of process 1")
    print(f"load average before and after, on {os.cpu_count()} cores: {load[0]:.1f}, {load[1]:.1f}\n")
    print(f"| growth | {' | '.join(MEASURED)} |\n| --- |{' --- |' * len(MEASURED)}")
    for growth in GROWTHS:
        cells = [", ".join(_summary(measured[growth][name]) for measured in by_rank) for name in MEASURED]
        print(f"| {growth} | {' | '.join(cells)} |")


def _summary(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f})"


if __name__ == "__main__":
    main()
