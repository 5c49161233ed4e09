"""A data source outside of the package: horizontal and vertical stripes in noise.

    python examples/extending/data_source.py     trains a small model on it in a few seconds

Use it in a search space, with this folder on PYTHONPATH:

    data:
      name: data_source:stripes
      options: {noise: 0.25}
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from explorer.data import ResidentData
from explorer.errors import validated
from explorer.spec import DataSpec, Frozen, TaskSpec


class StripesOptions(Frozen):
    """What `data.options` may hold."""

    train_images: int = Field(320, ge=16)
    """Number of training images."""
    held_out_images: int = Field(80, ge=8)
    """Number of validation images, and of test images."""
    noise: float = Field(0.5, ge=0)
    """Standard deviation of the noise; stripes have values from -1 to 1."""


def stripes(spec: DataSpec) -> ResidentData:
    """Images (N, 1, S, S) of stripes in [-1, 1] with noise; class 0 is horizontal, class 1 is vertical."""
    options = validated(StripesOptions, spec.options, "data.options")
    generator = torch.Generator().manual_seed(0)  # images depend on the settings alone
    counts = {"train": options.train_images, "validation": options.held_out_images, "test": options.held_out_images}
    labels = {split: torch.arange(count) % 2 for split, count in counts.items()}
    images = {split: draw(labels_N, spec.image_size, options.noise, generator) for split, labels_N in labels.items()}
    return ResidentData(images, labels, classes=2)


def draw(labels_N: Tensor, side: int, noise: float, generator: torch.Generator) -> Tensor:
    """One image per label, each with a random phase: float32 (N, 1, S, S)."""
    phases_N1 = 2 * torch.pi * torch.rand(len(labels_N), 1, generator=generator)
    waves_NS = torch.sin(torch.arange(side) * torch.pi / 2 + phases_N1)
    horizontal_NSS = waves_NS[:, :, None].expand(-1, -1, side)
    images_NSS = torch.where(labels_N[:, None, None] == 0, horizontal_NSS, horizontal_NSS.mT)
    noise_NSS = noise * torch.randn(images_NSS.shape, generator=generator)
    return (images_NSS + noise_NSS).clamp(-1, 1)[:, None]


TASK = {
    "model": {
        "name": "vit_tiny_patch16_224",
        "options": {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 4},
    },
    "data": {"name": "data_source:stripes", "image_size": 8, "options": {"noise": 0.25}},
    "recipe": {"epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "augmentation": {"flip": True}},
}


def main() -> None:
    """Train a small model at half of the cost of full training."""
    from explorer import Budget, Rates, Schedule, Stage, compile_plan
    from explorer.training.loop import train
    from explorer.training.task import Task

    half = Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5)
    schedule = Schedule(stages=(half, Stage(rates=Rates(), duration_ratio=0.5)))
    task = Task(TaskSpec.model_validate(TASK))
    plan = compile_plan(schedule, task, Budget.parse("50%"), task.step_cost)
    result = train(task, plan, seed=0)
    print(f"{result.steps} steps, test accuracy {result.test:.1%}")


if __name__ == "__main__":
    main()
