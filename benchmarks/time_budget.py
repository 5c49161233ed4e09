"""Measure how closely a plan in device-seconds meets its budget: calibrate, plan, train, and compare the seconds.

    python benchmarks/time_budget.py [--device cuda] [--seconds 20]

The model is a vit_tiny with three stages at .25, .5, and 1 on all axes. The data is digits enlarged to 32 pixels, once in
memory and once as PNG files that another process decodes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from figures import keep
from PIL import Image
from sklearn.datasets import load_digits

from explorer import Budget, Rates, Schedule, Stage, compile_plan
from explorer.spec.task import TaskSpec
from explorer.training.calibration import Calibration
from explorer.training.loop import train
from explorer.training.task import Task

LEVELS = (0.25, 0.5, 1.0)
MODEL = {"patch_size": 4, "embed_dim": 128, "depth": 4, "num_heads": 4}
RATES = [Rates(heads=level, mlp=level, tokens=level) for level in LEVELS]
SCHEDULE = Schedule(stages=tuple(Stage(rates=r, duration_ratio=s) for r, s in zip(RATES, (0.3, 0.3, 0.4), strict=True)))


def task(data: dict[str, Any]) -> Task:
    """The task with one of the two data sets."""
    recipe = {"epochs": 100, "batch_size": 32, "learning_rate": 1e-3}
    model = {"name": "vit_tiny_patch16_224", "options": MODEL}
    return Task(TaskSpec.model_validate({"model": model, "data": {"image_size": 32, **data}, "recipe": recipe}))


def write_images(folder: str) -> None:
    """Write the digits as PNG files of 32 pixels."""
    images, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = Path(folder, "validation" if number % 5 == 0 else "train", str(label), f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8").reshape(8, 8)).resize((32, 32)).save(path)


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder)
        files = {"name": "folder", "root": folder, "num_workers": 1}
        for name, here in {"digits in memory": task({"name": "digits"}), "files, one more process": task(files)}.items():
            ratios = []
            for _ in range(options.repeats):
                measured = Calibration.measure(here, RATES, options.device)
                cost = measured.step_cost(here, options.device)
                compiled = compile_plan(SCHEDULE, here, Budget(options.seconds, "device-seconds"), cost)
                result = train(here, compiled, seed=0, device=options.device)
                ratios.append(result.seconds / (compiled.seconds or 1))
                steps = ", ".join(f"{1000 * step.seconds:.1f}" for step in measured.steps)
                print(
                    f"{name}: planned {compiled.seconds:.2f} s, realised {result.seconds:.2f} s: {ratios[-1]:.3f} "
                    f"({compiled.steps} steps of {steps} ms)",
                    flush=True,
                )
            keep(f"{name}: realised over planned seconds", statistics.median(ratios), 0.12)  # drift of the machine's step times


if __name__ == "__main__":
    main()
