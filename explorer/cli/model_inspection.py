"""What `explorer init` finds out about a model on a data set: an image size that it takes, and the rates it can have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from explorer.cli.data_inspection import DataFiles
from explorer.elastic import ElasticModel
from explorer.errors import InvalidInput
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.task import TaskSpec
from explorer.training.task import Task

LEVELS: tuple[tuple[float, ...], ...] = ((0.5, 0.75, 1.0), (0.34, 0.67, 1.0))
"""Rates to propose on every axis, the preferred ones first; the second ones are for models with three heads."""
UPSCALING_LIMIT = 0.6
"""Images whose side is below this fraction of the model's own image size are not enlarged if the model allows that."""
TRIAL_BATCH_SIZE = 2
"""Batch size of the tasks that are only opened to inspect them."""


@dataclass(frozen=True, kw_only=True)
class ModelOnData:
    """A model and a data set that fit each other."""

    model: str
    options: dict[str, Any]
    """Keyword arguments for `timm.create_model` that the images need; often empty."""
    data: DataFiles
    image_size: int
    published_size: int
    """Image size that timm publishes the model with."""
    train_images: int
    classes: int
    smallest: Rates
    """The smallest possible rate on each axis; 1 where the model cannot be reduced."""
    levels: tuple[float, ...]
    """Rates that every axis in `axes` can have."""
    realised: dict[Axis, tuple[float, ...]]
    """For each axis to search, the rates that the levels become, as heads, channels and tokens are whole numbers."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Axes to search."""
        return tuple(self.realised)


def inspect_model(name: str, data: DataFiles) -> ModelOnData:
    """Build a model without memory for the first image size that fits it, and see at which rates it can run.

    Raises:
        InvalidInput: when timm does not know the model, the data cannot be opened, or no image size fits both.
    """
    published_size = _published_size(name)
    refused: InvalidInput | None = None
    for options, size in _candidates(data, published_size):
        spec = TaskSpec.model_validate(
            {
                "model": {"name": name, "options": options},
                "data": data_section(data, size),
                "recipe": {"epochs": 1, "batch_size": TRIAL_BATCH_SIZE, "learning_rate": 1e-3},
            }
        )
        task = Task(spec)
        try:
            task.check()
        except InvalidInput as error:  # this size or option does not suit the model; the last refusal is the one to report
            refused = error
            continue
        return _on_data(task, data, published_size)
    assert refused is not None
    raise refused


def data_section(data: DataFiles, image_size: int) -> dict[str, Any]:
    """The `data` section of a search space, with the keys that differ from their defaults."""
    section: dict[str, Any] = {"name": data.name}
    if data.root:
        section["root"] = data.root
    section["image_size"] = image_size
    if data.from_files:
        section["train_split"] = data.train_split
        if data.validation_split:
            section["validation_split"] = data.validation_split
        section["test_split"] = data.test_split
    return section


def _published_size(name: str) -> int:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "`explorer models` lists the transformers"
        raise InvalidInput("model", name, f"timm {timm.__version__} has no such model; {hint}")
    published = timm.get_pretrained_cfg(name)
    return int(published.input_size[-1]) if published else 224


def _candidates(data: DataFiles, published_size: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Model options and image sizes to try, the best first."""
    side = data.side
    if side is not None and side < UPSCALING_LIMIT * published_size:
        # Small images: smaller patches keep enough tokens. Models without square patches take the smallest size they can.
        patch_size = 2 if side <= 16 else 4
        yield {"patch_size": patch_size}, side - side % patch_size
        yield from (({}, size) for size in range(32, published_size, 32) if size >= side)
    yield {}, published_size


def _on_data(task: Task, data: DataFiles, published_size: int) -> ModelOnData:
    with torch.device("meta"):
        model = ElasticModel(task.build_model(), task.spec.staging, image_size=task.data.image_size)
    smallest = model.smallest_rates
    # Depth is left to the user: dropping blocks pays for deep models only.
    axes = [axis for axis in AXES if axis != "depth" and getattr(smallest, axis) < 1]
    found: list[tuple[tuple[float, ...], dict[Axis, tuple[float, ...]]]] = []
    for candidate in LEVELS:
        realised = {axis: _realised(task, model, axis, candidate) for axis in axes}
        found.append((candidate, {axis: rates for axis, rates in realised.items() if rates}))
    # Prefer the levels that give every axis the most different rates; the first ones if there is no difference.
    levels, by_axis = max(found, key=lambda one: sum(len(set(rates)) for rates in one[1].values()))
    if not by_axis:
        raise InvalidInput(
            "model", task.spec.model.name, "cannot be reduced on any axis; `explorer models` lists models that can"
        )
    return ModelOnData(
        model=task.spec.model.name,
        options=task.spec.model.options,
        data=data,
        image_size=task.data.image_size,
        published_size=published_size,
        train_images=task.train_images,
        classes=task.data.classes,
        smallest=smallest,
        levels=levels,
        realised=by_axis,
    )


def _realised(task: Task, model: ElasticModel, axis: Axis, levels: tuple[float, ...]) -> tuple[float, ...]:
    """The rates that levels become on an axis; empty if one of them is impossible."""
    requested = [Rates(**{axis: level}) for level in levels]
    try:
        if axis == "tokens":  # not every number of tokens passes through every model: counting a step tries it
            return tuple(task.step_cost(rates).rates.tokens for rates in requested)
        return tuple(getattr(model.realise(rates), axis) for rates in requested)
    except InvalidInput:
        return ()
