"""The model card of a run of `explorer train`, which knows its task, its data, and what was measured."""

from __future__ import annotations

from explorer.data.preprocessing import LOCAL
from explorer.data.source import TargetKind
from explorer.plan import Plan
from explorer.production.card_parts import (
    LIMITATIONS,
    bulleted,
    card_text,
    classes_line,
    cost_lines,
    escaped,
    images_line,
    introduction,
    limits_of_test,
    metadata,
    preprocessing_text,
    recipe_lines,
    result_lines,
    schedule_lines,
    table,
)
from explorer.production.measured import MeasuredMetric
from explorer.production.result import RunResult
from explorer.production.verdict import expectation, other_task
from explorer.spec.inventory import Inventory
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.model import ModelSpec
from explorer.spec.model_input import ModelInput
from explorer.spec.schedule import Schedule
from explorer.spec.task import TaskSpec


def model_card(
    *,
    architecture: str,
    task: TaskSpec,
    inputs: ModelInput,
    inventory: Inventory,
    plan: Plan,
    schedule: Schedule | None,
    result: RunResult,
    measured: MeasuredMetric,
    kind: TargetKind = "class",
) -> str:
    """The text of the card of one training run.

    Args:
        architecture: timm's name of the architecture.
        task: what was trained.
        inputs: classes, size and preprocessing of the images.
        inventory: what the model was trained and evaluated on.
        plan: the plan that was executed.
        schedule: the schedule that the plan was compiled from; `None` if it is not known.
        result: what the run cost, and its metrics.
        measured: the metric on test images, and how it was measured.
        kind: what the model predicts for an image.
    """
    name = f"{architecture} trained on {_source(task)}"
    sections = {
        "Accuracy" if result.metric == ACCURACY else "Results": _results(
            result, inventory, _expected(task, inventory, plan, schedule)
        ),
        "Data": _data(task, inventory, inputs),
        "Schedule": schedule_lines(plan),
        "Cost": _cost(plan, result, measured),
        "Recipe": _recipe(task, result),
        "Limitations": _limitations(inventory, inputs, result.metric, kind),
    }
    is_share_of_time = plan.currency == "device_seconds" and plan.budget.unit == "fraction"
    counted = " of full training's device-seconds" if is_share_of_time else ""
    trained = f"trained by vit-budget-explorer at a budget of {escaped(result.budget)}{counted}"
    return card_text(
        name=name,
        introduction=introduction(architecture, kind, len(inputs.class_names), trained),
        sections=sections,
        metadata=metadata(name=name, kind=kind, metric=result.metric, measured=measured, data=_source(task)),
    )


def _source(task: TaskSpec) -> str:
    """The data set by its name; for folders also by the last part of their path, without the rest of it."""
    root = task.data.root
    return f"{task.data.name} {root.rstrip('/').rpartition('/')[2]}" if root and task.data.name == "folder" else task.data.name


def _expected(task: TaskSpec, inventory: Inventory, plan: Plan, schedule: Schedule | None) -> str:
    if schedule is None:
        return "What to expect of the schedule is not known."
    expected = expectation(schedule, task, inventory, plan)
    if expected is None or schedule.provenance is None:
        return f"Nothing was predicted: {escaped(other_task(schedule, task, inventory) or 'the sweep ran a single seed')}."
    return f"By the sweep {escaped(schedule.provenance.sweep)}: {escaped(expected)}."


def _results(result: RunResult, inventory: Inventory, expected: str) -> list[str]:
    measured = [(result.metric, result.validation, result.test)]
    if (also := result.also) is not None:
        measured.append((also.metric, also.validation, also.test))
    lines = []
    for metric, *values in measured:
        splits = zip(("validation", "test"), values, strict=True)
        lines += result_lines(metric, [(split, inventory.splits[split].images, value) for split, value in splits])
    return [*lines, expected]


def _data(task: TaskSpec, inventory: Inventory, inputs: ModelInput) -> list[str]:
    rows = [
        (
            role,
            escaped(split.name),
            f"{split.images:,}",
            f"`{split.listing}`" if split.listing else "",
            f"`{split.content}`" if split.content else "",
        )
        for role, split in inventory.splits.items()
    ]
    lines = [
        f"Data set: {escaped(_source(task))}.",
        "",
        *table(("role", "split", "images", "SHA-256 of names, sizes and labels", "SHA-256 of contents and labels"), rows),
        "",
        classes_line(inputs),
        "",
        images_line(inputs, _pixels(task, inputs)),
    ]
    if (fraction := task.data.train_fraction) != 1:
        lines += ["", f"The training images are a stratified subset of {fraction:.4g} of those of the data set."]
    return lines


def _pixels(task: TaskSpec, inputs: ModelInput) -> str:
    """How images become what the model is given."""
    if inputs.preprocessing is None:
        return (
            f"The data source {escaped(task.data.name)} normalizes images by rules of its own, to [-1, 1] where they were "
            "8-bit brightness; mean and standard deviation in config.json say the same for pixel values from 0 to 1."
        )
    text = preprocessing_text(inputs.preprocessing)
    if task.data.exif_orientation != "ignore":
        text += " Images are turned upright first, as their EXIF orientation says."
    if task.data.cache and task.data.cache.short_side:
        text += f" Larger images are first reduced to a shorter side of {task.data.cache.short_side} pixels."
    return text


def _cost(plan: Plan, result: RunResult, measured: MeasuredMetric) -> list[str]:
    where = f"on {escaped(measured.device)}, processes: {result.processes}."
    summary = f"{result.steps:,} steps in {result.train_seconds:.1f} s {where}"
    return cost_lines(plan, result.realised_flops, result.cost, summary)


def _recipe(task: TaskSpec, result: RunResult) -> list[str]:
    content = {"seed": result.seed, "initialization": _initialization(task.model)}
    content |= task.model_dump(mode="json", include={"recipe", "staging"})
    return recipe_lines(content)


def _initialization(model: ModelSpec) -> str:
    """What the weights started from; paths of folders are not published."""
    if model.checkpoint is not None:
        name = model.checkpoint.replace("\\", "/").rpartition("/")[2]
        return f"weights of the file {name}, SHA-256 {model.weights_sha256}"
    if not model.pretrained:
        return "random"
    return "pretrained weights of a local folder" if model.name.startswith(LOCAL) else f"pretrained weights of {model.name}"


def _limitations(inventory: Inventory, inputs: ModelInput, metric: MetricSpec, kind: TargetKind) -> list[str]:
    label = escaped(metric.label)
    intervals = ", which the intervals above do not contain" if metric.is_fraction_of_images else ""
    lines = [
        f"This is one run with one seed. Another seed gives another {label}{intervals}.",
        limits_of_test(metric),
        LIMITATIONS[kind].format(len(inputs.class_names)),
    ]
    lines += [f"{count:,} images are in both {pair}." for pair, count in inventory.overlaps.items()]
    if not inventory.checked:
        lines.append("Not every image was checked before the training.")
    return bulleted(lines)
