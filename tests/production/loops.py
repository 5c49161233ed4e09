"""A small model, a schedule of two stages, and a step of a training loop, for the tests of `StagedTraining`."""

import timm
import torch
from torch.nn import functional

from explorer import Rates, Schedule, Stage, StagedTraining

HALVES = Schedule(
    stages=(Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)),
    grid=4,
)


def small(seed=0, **options):
    torch.manual_seed(seed)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5, **options
    )
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def staged(model, optimizer, schedule=HALVES, **changes):
    settings = {"budget": "50%", "full_steps": 20, "batch_size": 8, "image_shape": (3, 16, 16), **changes}
    return StagedTraining(model, optimizer, schedule, **settings)


def one_step(model, optimizer, number):
    """Forward, backward and update on images that depend on the step's number alone."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(8, 3, 16, 16, generator=generator)
    torch.manual_seed(number)  # of dropped tokens
    loss = functional.cross_entropy(model(images), torch.arange(8) % 5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
