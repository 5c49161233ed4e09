"""Does a cheaper step take less time? Seconds and counted FLOPs of a training step at several rates, side by side.

    python benchmarks/elastic_speed.py

All sizes are timed in turn, round after round, and compared within a round, so that a machine whose speed drifts gives
the same ratios. A stage is real training: forward, backward and a fused AdamW step of a resized timm model.
"""

import argparse
import os
import platform
import statistics
import time

import timm
import torch
from timm.optim import create_optimizer_v2

from explorer import Rates
from explorer.cost import count_step_flops
from explorer.elastic import ElasticModel

MODEL = {"model_name": "vit_small_patch16_224", "img_size": 64, "patch_size": 8, "depth": 6, "num_classes": 10}
BATCH, SIZE = 32, 64
RATES = {
    "full": Rates(),
    "heads .5": Rates(heads=0.5),
    "mlp .5": Rates(mlp=0.5),
    "heads and mlp .5": Rates(heads=0.5, mlp=0.5),
    "tokens .5": Rates(tokens=0.5),
    "all .5": Rates(heads=0.5, mlp=0.5, tokens=0.5),
    "all .25": Rates(heads=0.25, mlp=0.25, tokens=0.25),
}


class Candidate:
    """A model at fixed rates with its optimizer."""

    def __init__(self, rates: Rates, device: str) -> None:
        with torch.device("meta"):
            counted = timm.create_model(**MODEL)
        self.realised = ElasticModel(counted).set_rates(rates)
        self.flops = count_step_flops(counted, (BATCH, 3, SIZE, SIZE))
        self.model = timm.create_model(**MODEL).to(device)
        self.optimizer = create_optimizer_v2(self.model, "adamw", lr=1e-4, fused=True)
        ElasticModel(self.model).set_rates(rates, self.optimizer)
        self.images = torch.randn(BATCH, 3, SIZE, SIZE, device=device)
        self.labels = torch.randint(0, 10, (BATCH,), device=device)

    def seconds(self, steps: int) -> float:
        """Time of some training steps."""
        started = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(self.model(self.images), self.labels).backward()
            self.optimizer.step()
        if self.images.is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps


def stage_change_seconds() -> float:
    """Time of one growth from .5 to full on all axes, optimizer state included, for deit_small at 224 px on the CPU."""
    model = timm.create_model("deit_small_patch16_224")
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-4, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    elastic = ElasticModel(model)
    elastic.set_rates(RATES["all .5"], optimizer)
    started = time.perf_counter()
    elastic.set_rates(Rates(), optimizer)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="steps timed in each round")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    candidates = {name: Candidate(rates, options.device) for name, rates in RATES.items()}
    for candidate in candidates.values():
        candidate.seconds(1)
    rounds = [{n: c.seconds(options.steps) for n, c in candidates.items()} for _ in range(options.rounds)]

    full = candidates["full"]
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"one thread of {os.cpu_count()} CPU cores"
    print(f"{where} ({platform.machine()}), torch {torch.__version__}, timm {timm.__version__}, {time.strftime('%Y-%m-%d')}")
    print(f"vit_small, 6 blocks, {SIZE} px, patch 8, batch {BATCH}; median of {options.rounds} rounds\n")
    print("| rates | ms a step | time ratio | FLOP ratio | time / FLOPs |\n| --- | --- | --- | --- | --- |")
    for name, candidate in candidates.items():
        ratio = statistics.median(r[name] / r["full"] for r in rounds)
        flops = candidate.flops / full.flops
        milliseconds = 1000 * statistics.median(r[name] for r in rounds)
        print(f"| {name} | {milliseconds:.0f} | {ratio:.2f} | {flops:.2f} | {ratio / flops:.2f} |")
    print(f"\nstage change, deit_small, .5 to full on all axes with AdamW state: {stage_change_seconds():.2f} s")


if __name__ == "__main__":
    main()
