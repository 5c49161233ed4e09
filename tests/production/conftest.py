"""A tiny model, its schedule and fixed batches, shared by the tests of all trainers."""

import timm
import torch
from torch.nn import functional

from explorer import Rates, Schedule, Stage, StagedTraining
from tests.production.finished_runs import digits_run, folder_run  # noqa: F401 (fixtures)
from tests.test_cli import explorer  # noqa: F401 (a fixture)

SHAPE = (3, 16, 16)
SETTINGS = {"budget": "50%", "full_steps": 20, "image_shape": SHAPE, "batch_size": 8}
WIDTHS = Schedule(
    stages=(Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=4
)
"""No tokens are dropped, so training uses no random numbers, and every trainer must end with the same weights."""


def tiny_model(seed=0):
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5
    )


def batch(number):
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(number))
    return images, torch.arange(8) % 5


def watched(model, optimizer):
    """What a step trains with: MLP width and learning rate."""
    return model.blocks[0].mlp.fc1.out_features, optimizer.param_groups[0]["lr"]


def plain_loop(batches_in_epoch):
    """The reference: what each step trains with, and the finished model."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    training = StagedTraining(model, optimizer, WIDTHS, **SETTINGS)
    seen = []
    while training.step():
        images, labels = batch((training.begun - 1) % batches_in_epoch)
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(watched(model, optimizer))
    return seen, model
