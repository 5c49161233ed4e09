"""Compare staged training with the baseline on a GPU: deit_small on fractals at 224 px, at 10, 25, and 100 %.

    python benchmarks/fractals_gpu.py [--epochs 20] [--seeds 3]
    python benchmarks/fractals_gpu.py --device cpu --tiny    a one-minute version that checks that the script runs

One fixed schedule (heads, MLP and tokens at .5, .75, 1) against the baseline, each with the best of three learning rates on
validation data at seed 0. Fresh seeds are reported. The data has 40 classes x 400 training images and 2 x 2,000 held-out
images; it needs 1 GB and is rendered within minutes. This script needs torch and timm, but not ray.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from figures import keep
from timed_step import where

from explorer import Budget, Rates, Schedule, Stage, compile_plan
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.result import TrainingResult
from explorer.training.task import Task

LEARNING_RATES = (5e-4, 1e-3, 2e-3)
BUDGETS = ("10%", "25%", "100%")


def task(epochs: float, learning_rate: float, tiny: bool) -> Task:
    """The reference task, or a tiny one that a CPU trains in seconds."""
    spec: dict[str, Any] = {
        "model": {"name": "deit_small_patch16_224", "options": {}},
        "data": {"name": "fractals", "image_size": 224, "fractals": {"classes": 40, "instances": 400, "held_out": 50}},
        "recipe": {
            "epochs": epochs,
            "batch_size": 256,
            "learning_rate": learning_rate,
            "lr_schedule": {"kind": "linear", "warmup": 0.05},
            "weight_decay": 0.05,
            "label_smoothing": 0.1,
            "clip_grad": 1.0,
        },
    }
    if tiny:
        spec["model"] = {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 32, "depth": 2, "num_heads": 4}}
        spec["data"] |= {"image_size": 32, "fractals": {"classes": 4, "instances": 64, "held_out": 16}}
        spec["recipe"]["batch_size"] = 16
    return Task(TaskSpec.model_validate(spec))


def schedules() -> dict[str, Schedule]:
    """The schedules to compare."""
    rates = [Rates(heads=r, mlp=r, tokens=r) for r in (0.5, 0.75, 1.0)]
    shares = (0.4, 0.3, 0.3)
    staged = Schedule(stages=tuple(Stage(rates=r, duration_ratio=s) for r, s in zip(rates, shares, strict=True)))
    return {"staged": staged, "baseline": Schedule.full_model()}


def main() -> None:
    """Train and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()

    def run(schedule: Schedule, rate: float, budget: str, seed: int) -> TrainingResult:
        here = task(options.epochs, rate, options.tiny)
        return train(here, compile_plan(schedule, here, Budget.parse(budget), here.step_cost), seed=seed, device=options.device)

    begun = time.perf_counter()
    images = task(options.epochs, LEARNING_RATES[0], options.tiny).train_images
    print(f"{where(options.device)}; {images} images rendered in {time.perf_counter() - begun:.0f} s\n")
    print("| budget | what | learning rate | test accuracy, each seed | seconds |\n| --- | --- | --- | --- | --- |")
    for budget in options.budgets:
        for name, schedule in schedules().items():
            best = max(
                LEARNING_RATES[:1] if options.tiny else LEARNING_RATES,
                key=lambda rate: run(schedule, rate, budget, 0).validation,
            )
            runs = [run(schedule, best, budget, 1 + seed) for seed in range(options.seeds)]
            shown = ", ".join(f"{100 * each.test:.1f}" for each in runs)
            seconds = statistics.mean(each.seconds for each in runs)
            print(f"| {budget} | {name} | {best:g} | {shown} | {seconds:.1f} |", flush=True)
            keep(f"{name} at {budget}: test accuracy", statistics.mean(each.test for each in runs), 0.1)


if __name__ == "__main__":
    main()
