"""Measure the time and the counted FLOPs of a training step at several rates: does a cheaper step take less time?

    python benchmarks/elastic_speed.py                  a small vit_small, 64 px, one CPU thread
    python benchmarks/elastic_speed.py --device cuda    deit_small, 224 px, bf16, compiled; also peak memory

Each step is a real training step of a resized timm model: forward, backward, and fused AdamW.
"""

import argparse
import subprocess
import sys
import time
from typing import Any

import timm
import torch
from figures import keep
from timed_step import TimedStep, median_milliseconds, median_ratio, rounds, where
from timm.optim import create_optimizer_v2

from explorer import Rates
from explorer.elastic import ElasticModel

SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {
        "model": {"model_name": "vit_small_patch16_224", "img_size": 64, "patch_size": 8, "depth": 6, "num_classes": 10},
        "batch": 32,
        "size": 64,
    },
    "cuda": {"model": {"model_name": "deit_small_patch16_224"}, "batch": 512, "size": 224, "compiled": "blocks", "bf16": True},
}
RATES = {
    "full": Rates(),
    "heads .5": Rates(heads=0.5),
    "mlp .5": Rates(mlp=0.5),
    "heads and mlp .5": Rates(heads=0.5, mlp=0.5),
    "tokens .5": Rates(tokens=0.5),
    "depth .5": Rates(depth=0.5),
    "all .5": Rates(heads=0.5, mlp=0.5, tokens=0.5),
    "all .25": Rates(heads=0.25, mlp=0.25, tokens=0.25),
}
"""`all` means heads, channels and tokens."""


def stage_change_seconds(device: str) -> float:
    """Measure a growth from .5 to full on all axes, including optimizer state, for deit_small at 224 px."""
    model = timm.create_model("deit_small_patch16_224").to(device)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-4, fused=True)
    elastic = ElasticModel(model)
    elastic.set_rates(RATES["all .5"], optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    elastic.set_rates(Rates(), optimizer)
    wait()
    return time.perf_counter() - started


def models_command_seconds() -> float:
    """Measure `explorer models --json` for all of timm's transformers, from starting Python to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "explorer", "models", "--json"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="steps per round")
    parser.add_argument("--batch", type=int, help="batch size; default: that of the device")
    parser.add_argument("--device", default="cpu", choices=sorted(SETTINGS))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    setting = SETTINGS[options.device] | ({"batch": options.batch} if options.batch else {})
    candidates = {name: TimedStep(rates=rates, device=options.device, **setting) for name, rates in RATES.items()}
    timed = rounds(candidates, options.rounds, options.steps)
    full = candidates["full"]
    print(f"{where(options.device)}\n{setting['model']['model_name']}, {setting['size']} px, batch {setting['batch']}\n")
    print("| rates | ms a step | time ratio | FLOP ratio | time / FLOPs |\n| --- | --- | --- | --- | --- |")
    for name, candidate in candidates.items():
        ratio, flops = median_ratio(timed, name, "full"), candidate.flops / full.flops
        print(f"| {name} | {median_milliseconds(timed, name):.0f} | {ratio:.2f} | {flops:.2f} | {ratio / flops:.2f} |")
        keep(f"{name}: time of a step, of the full one", ratio, 0.1)
        keep(f"{name}: FLOPs of a step, of the full one", flops, 0.0005)
    if options.device == "cuda":
        del candidates, full
        peaks = {}
        for name in ("full", "all .5"):
            torch.cuda.empty_cache()
            peaks[name] = TimedStep(rates=RATES[name], device="cuda", **setting).peak_bytes()
        print(f"\npeak memory: {peaks['full'] / 2**30:.2f} GiB in full, all .5 {peaks['all .5'] / peaks['full']:.2f} of it")
    else:
        print("\n| rates | counted arithmetic, of the full step | all else, of the full step |\n| --- | --- | --- |")
        for name in ("full", "heads and mlp .5", "tokens .5", "all .5", "all .25"):
            ratio, (arithmetic, rest) = median_ratio(timed, name, "full"), candidates[name].split()
            print(f"| {name} | {ratio * arithmetic:.2f} | {ratio * rest:.2f} |")
    change = stage_change_seconds(options.device)
    print(f"\nstage change, deit_small, .5 to full on all axes with AdamW state: {change:.2f} s")
    if options.device == "cpu":
        seconds = min(models_command_seconds() for _ in range(3))
        print(f"explorer models --json, whole process: {seconds:.2f} s")
        keep("explorer models --json, whole process, seconds", seconds, 0.5)


if __name__ == "__main__":
    main()
