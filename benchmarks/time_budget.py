"""Does a plan in device-seconds meet its budget? Calibrate, plan, train; planned against realised seconds.

    python benchmarks/time_budget.py [--device cuda] [--seconds 20]

A vit_tiny on digits enlarged to 32 pixels, three stages at .25, .5 and 1 on all axes.
"""

from __future__ import annotations

import argparse

import torch

from explorer import Budget, Rates, Schedule, Stage, plan
from explorer.training.calibration import Calibration
from explorer.training.loop import train
from explorer.training.task import Task, TaskSpec

LEVELS = (0.25, 0.5, 1.0)
MODEL = {"patch_size": 4, "embed_dim": 128, "depth": 4, "num_heads": 4}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(
        TaskSpec.model_validate(
            {
                "model": {"name": "vit_tiny_patch16_224", "options": MODEL},
                "data": {"name": "digits", "image_size": 32},
                "recipe": {"epochs": 100, "batch_size": 32, "learning_rate": 1e-3},
            }
        )
    )
    rates = [Rates(heads=level, mlp=level, tokens=level) for level in LEVELS]
    stages = tuple(Stage(rates=each, duration_ratio=share) for each, share in zip(rates, (0.3, 0.3, 0.4), strict=True))
    schedule = Schedule(stages=stages)
    for _ in range(options.repeats):
        calibration = Calibration.measure(task, rates, options.device)
        compiled = plan(schedule, task, Budget(options.seconds, "device-seconds"), calibration.step_cost(task, options.device))
        result = train(task, compiled, seed=0, device=options.device)
        steps = ", ".join(f"{1000 * step.seconds:.1f}" for step in calibration.steps)
        print(
            f"planned {compiled.seconds:.2f} s, realised {result.seconds:.2f} s: "
            f"{result.seconds / (compiled.seconds or 1):.3f} ({compiled.steps} steps of {steps} ms)"
        )


if __name__ == "__main__":
    main()
