"""What a sweep trains on, in words: for the page, and for `explorer sweep --dry-run` before anything is trained."""

from __future__ import annotations

from typing import Any

from explorer.ledger import SweepHeader
from explorer.spec.data import IN_MEMORY, DataSpec, TargetKind
from explorer.spec.inventory import Inventory, SplitInventory
from explorer.spec.model import ModelSpec
from explorer.spec.recipe import Augmentation
from explorer.spec.task import TaskSpec

MAX_CLASS_NAMES = 12
"""Classes that are named; of more, the first ones are."""
OUTPUTS: dict[TargetKind, str] = {"class": "classes", "labels": "labels", "values": "values"}
"""What a model predicts, in the plural."""


def trained_on(header: SweepHeader) -> dict[str, str]:
    """The task of a sweep by its parts: model, data, images of each split, classes, image size, an objective that is not the
    default, augmentation, full training.

    What the header does not hold is left out: sweeps of earlier releases have no inventory.
    """
    task, inventory = header.space.task, header.inventory
    facts = {"model": model_text(task.model, header.model_parameters), "data": data_text(task.data)}
    if inventory:
        facts |= inventory_facts(inventory)
    facts["image size"] = f"{task.data.image_size} x {task.data.image_size} pixels"
    if chosen := task.objective.model_dump():
        facts["objective"] = listed(chosen)
    facts["augmentation"] = header.augmentation or augmentation_text(task.recipe.augmentation)
    facts["full training"] = full_training_text(task, inventory)
    return facts


def subject(header: SweepHeader) -> str:
    """Model and data on one line: `vit_tiny on digits: 1,152 training images of 10 classes, 8 x 8 pixels`."""
    task, inventory = header.space.task, header.inventory
    size = f"{task.data.image_size} x {task.data.image_size} pixels"
    images = (
        f"{inventory.train.images:,} training images of {len(inventory.class_names)} {OUTPUTS[inventory.target_kind]}, "
        if inventory
        else ""
    )
    return f"{task.model.name} on {data_text(task.data)}: {images}{size}"


def model_text(model: ModelSpec, parameters: int | None = None) -> str:
    """The model as the user named it, its number of parameters and its options."""
    parts = [model.name]
    if parameters:
        parts.append(f"{parameters / 1e6:.3g} million parameters" if parameters >= 1e6 else f"{parameters:,} parameters")
    if model.pretrained:
        parts.append("pretrained weights")
    if model.checkpoint:
        parts.append(f"weights of {model.checkpoint}")
    return "; ".join([", ".join(parts), options_text(model.options)] if model.options else [", ".join(parts)])


def data_text(data: DataSpec) -> str:
    """The data set as the user named it: the source, and the folder if there is one."""
    return f"{data.name}, {data.root}" if data.root else data.name


def inventory_facts(inventory: Inventory) -> dict[str, str]:
    """Images of each split, classes, and what a reader should know about the files."""
    splits = [_split_text(role, split) for role, split in inventory.splits.items()]
    names = inventory.class_names
    shown = ", ".join(names[:MAX_CLASS_NAMES]) + (", ..." if len(names) > MAX_CLASS_NAMES else "")
    facts = {"images": "; ".join(splits), OUTPUTS[inventory.target_kind]: f"{len(names)}: {shown}"}
    if inventory.warnings:
        facts["about the files"] = "; ".join(inventory.warnings)
    return facts


def augmentation_text(augmentation: Augmentation) -> str:
    """The augmentation of the recipe; settings that change nothing are left out."""
    return listed(augmentation.model_dump(exclude_defaults=True)) or "none"


def full_training_text(task: TaskSpec, inventory: Inventory | None) -> str:
    """Length of full training in epochs, and in steps where the number of images is known."""
    recipe = task.recipe
    text = f"{recipe.epochs:g} epochs"
    if inventory:
        steps = int(recipe.epochs * inventory.train.images / recipe.batch_size)
        text += f", {steps:,} steps of batch size {recipe.batch_size}"
    return text


def data_settings(data: DataSpec) -> dict[str, Any]:
    """The settings of `data` that apply to its source and differ from their defaults; image size and splits always."""
    fields = type(data).model_fields
    always = {"name", "image_size"} | (set() if data.name in IN_MEMORY else {"train_split", "validation_split", "test_split"})
    other = set() if data.name == "fractals" else {"fractals"}
    return {
        name: value
        for name, value in data.model_dump().items()
        if name not in other and (name in always or getattr(data, name) != fields[name].default)
    }


def options_text(options: dict[str, Any]) -> str:
    """Options of a model on one line: all of them were given."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def listed(settings: dict[str, Any]) -> str:
    """Settings on one line; unset ones are left out."""
    parts = []
    for key, value in settings.items():
        text = listed(value) if isinstance(value, dict) else value
        if text not in (None, "", [], (), False):
            parts.append(f"{key} ({text})" if isinstance(value, dict) else f"{key} {text}")
    return ", ".join(parts)


def _split_text(role: str, split: SplitInventory) -> str:
    """`1,152 training`, with the split's own name where that says more."""
    name = {"train": "training"}.get(role, role)
    return f"{split.images:,} {name}" + (f" ({split.name})" if split.name not in (role, name) else "")
