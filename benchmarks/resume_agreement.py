"""Does a training in bf16 that was interrupted and resumed end where one ends that was not?

    python benchmarks/resume_agreement.py [--device cuda]

Trains a staged model three times with one seed: twice without an interruption, and once interrupted in every stage and
resumed from its checkpoint. Kernels of a GPU may add up in any order, so two equal runs can differ; what the interruptions
change is compared with that. Differences are relative: the norm of the difference of all weights over their norm.

The last line has both differences. It exits with 1 if the resumed run differs by more than bf16's rounding error and three
times what equal runs differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from figures import keep
from timed_step import where

from explorer import Budget, Rates, Schedule, Stage, compile_plan
from explorer.plan import Plan
from explorer.spec.task import TaskSpec
from explorer.training.loop import train
from explorer.training.progress import Progress
from explorer.training.task import Task

BF16_ROUNDING = 2.0**-8
RATES = [Rates(heads=level, mlp=level, tokens=level, depth=level) for level in (0.25, 0.5, 1.0)]
SCHEDULE = Schedule(stages=tuple(Stage(rates=rates, duration_ratio=1 / 3) for rates in RATES))


class InterruptedRunError(Exception):
    """The interruption."""


def task_of(width: int, epochs: float) -> Task:
    """Fractals, in bf16 on every device, with everything that a checkpoint holds: dropout, averaged weights, moments."""
    return Task(
        TaskSpec.model_validate(
            {
                "model": {
                    "name": "vit_tiny_patch16_224",
                    "options": {"patch_size": 4, "embed_dim": width, "depth": 4, "num_heads": 4, "drop_path_rate": 0.1},
                },
                "data": {
                    "name": "fractals",
                    "image_size": 32,
                    "fractals": {"classes": 8, "instances": 64, "held_out": 8},
                },
                "recipe": {
                    "epochs": epochs,
                    "batch_size": 32,
                    "learning_rate": 1e-3,
                    "amp": "bf16",
                    "ema_decay": 0.99,
                    "augmentation": {"mixup": 0.2},
                },
            }
        )
    )


def straight(task: Task, plan: Plan, device: str) -> torch.Tensor:
    """All weights, one after another, of a run without an interruption."""
    return _weights(train(task, plan, seed=0, device=device).model)


def interrupted(task: Task, plan: Plan, device: str) -> torch.Tensor:
    """The same of a run that is interrupted after the first segment of each stage."""
    ends = {next(n for n, segment in enumerate(plan.segments, 1) if segment.stage == stage.stage) for stage in plan.stages()}

    def interrupt(progress: Progress) -> None:
        if len(progress.segments) in ends:
            ends.remove(len(progress.segments))
            raise InterruptedRunError

    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                checkpoint = Path(folder, "checkpoint.pt")
                return _weights(train(task, plan, seed=0, device=device, checkpoint=checkpoint, on_segment=interrupt).model)
            except InterruptedRunError:
                continue


def _weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().float().flatten().cpu() for parameter in model.parameters()])


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative difference of two sets of weights."""
    return float((one - other).norm() / one.norm())


def main() -> None:
    """Train, compare, and exit with 1 if the interruptions change more than rounding does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--epochs", type=float, default=10.0)
    options = parser.parse_args()
    task = task_of(options.width, options.epochs)
    plan = compile_plan(SCHEDULE, task, Budget(1.0), task.step_cost)
    print(where(options.device))
    first = straight(task, plan, options.device)
    repeated = difference(first, straight(task, plan, options.device))
    resumed = difference(first, interrupted(task, plan, options.device))
    keep("weights of a resumed run, relative difference", resumed, 1.0)
    print(f"{plan.steps} steps; relative difference of the weights: equal runs {repeated:.1e}, resumed {resumed:.1e}")
    sys.exit(0 if resumed <= BF16_ROUNDING + 3 * repeated else 1)


if __name__ == "__main__":
    main()
