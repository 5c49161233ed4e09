"""The ways to spend a budget that run.py compares on Fashion-MNIST: search spaces made from task.yaml, and fixed schedules.

Images have 4 x 4 patches, so that those of smaller images are 2 x 2 and 3 x 3: the presets of EfficientTrain++ and of timm's
progressive image sizes, which have more sizes, are rounded to these.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm.optim.muon
import torch

from explorer import Rates, Schedule, SearchSpace, Stage
from explorer.spec.budget import Currency

FOLDER = Path(__file__).parent
TASK = FOLDER / "task.yaml"
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "adamw": {},
    "muon": {"recipe": {"optimizer": "muon"}},
}
"""Changes to the task for each optimizer. timm's Muon scales its updates to those of AdamW, so both have the same rates to
choose from."""


def muon_in_float32() -> None:
    """Let timm's Muon orthogonalize its updates in float32 instead of bfloat16.

    A CPU without bfloat16 instructions emulates them: for the matrices of this model, float32 is 20 to 26 times as fast.
    """
    timm.optim.muon.zeropower_via_newtonschulz = functools.partial(
        timm.optim.muon.zeropower_via_newtonschulz, dtype=torch.float32
    )


@dataclass(frozen=True)
class Method:
    """A way to spend a budget."""

    name: str
    """As tables show it."""
    schedule: Schedule | None = None
    """A fixed schedule, of which learning rate and batch size alone are searched; `None` searches schedules too."""
    currency: Currency = "flops"
    """Of the search."""


def _in_thirds(axis: str, first: float) -> Schedule:
    """One axis at a rate, then at one half, then full, for .35, .35 and .3 of the budget."""
    rates = (Rates(**{axis: first}), Rates(**{axis: 0.5}), Rates())
    stages = [Stage(rates=each, duration_ratio=share) for each, share in zip(rates, (0.35, 0.35, 0.3), strict=True)]
    return Schedule(stages=tuple(stages), grid=20)


METHODS: Mapping[str, Method] = {
    "full": Method("full model", Schedule.full_model(20)),
    "sweep": Method("our sweep, by FLOPs"),
    "seconds": Method("our sweep, by seconds", currency="device_seconds"),
    "paper": Method("the paper's preset", Schedule.preset("paper", "vit_tiny_patch16_224")),
    "depth": Method("depth growth", _in_thirds("depth", 1 / 3)),
    "tokens": Method("token dropping", _in_thirds("tokens", 0.25)),
    "efficienttrain": Method("EfficientTrain++-like", Schedule.preset("efficienttrain-like", "vit_tiny_patch16_224")),
    "progressive": Method("timm's progressive sizes", Schedule.preset("timm-progressive-like", "vit_tiny_patch16_224")),
}
"""The methods by name; the first is the baseline."""


def stages_of(text: str) -> list[tuple[str, int, int]]:
    """Rates, batch size and steps of each stage, from the column `stages` of results.csv."""
    found = []
    for stage in text.split("; "):
        size, steps = stage.rsplit(" x", 1)
        rates, batch = size.rsplit(" b", 1)
        found.append((rates, int(batch), int(steps)))
    return found


def space_of(method: str, optimizer: str) -> SearchSpace:
    """The search space of a method with an optimizer."""
    content = SearchSpace.load(TASK).model_dump(mode="json")
    content |= {"name": f"fashion_mnist_{method}_{optimizer}", "currency": METHODS[method].currency}
    for section, changes in OPTIMIZERS[optimizer].items():
        content[section] |= changes
    if (schedule := METHODS[method].schedule) is not None:
        content["staging"] |= schedule.staging
    return SearchSpace.model_validate(content)
