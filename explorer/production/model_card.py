"""The model card of a training run: `README.md`, in plain Markdown, with metadata that the Hugging Face hub reads."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import yaml
from huggingface_hub import EvalResult, ModelCardData
from timm.models import model_entrypoint

from explorer.console import printable
from explorer.data.preprocessing import LOCAL
from explorer.data.source import TargetKind
from explorer.plan import Plan
from explorer.production.measured import MeasuredMetric
from explorer.production.result import RunResult
from explorer.production.verdict import expectation, other_task
from explorer.spec.binomial import accuracy_interval
from explorer.spec.inventory import Inventory
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.model import ModelSpec
from explorer.spec.model_input import ModelInput
from explorer.spec.rates import AXES
from explorer.spec.schedule import Schedule
from explorer.spec.task import TaskSpec
from explorer.sweep.versions import installed_versions

SHOWN_CLASSES = 20
"""Classes that a card names; `config.json` has all names."""
INTRODUCTIONS: dict[TargetKind, str] = {
    "class": "An image classifier with {:,} classes",
    "labels": "An image classifier with {:,} labels, of which an image may have any number",
    "values": "A model that predicts numbers from an image ({:,} each)",
}
"""What a model is, by what it predicts."""
LIMITATIONS: dict[TargetKind, str] = {
    "class": "The model knows {:,} classes, and assigns every image to one of them.",
    "labels": "The model knows {:,} labels, and decides on each of them for every image.",
    "values": "The model predicts {:,} numbers for every image, whatever it shows.",
}
BINOMIAL = "The intervals are binomial: they say how exactly this number of images measures this model."
SPECIAL = re.compile(r"([\\`*\[\]|~$])")
"""Characters that would be markup within a line."""


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
        "Accuracy" if result.metric == ACCURACY else "Results": _results(result, inventory, _expected(task, plan, schedule)),
        "Data": _data(task, inventory, inputs),
        "Schedule": _schedule(plan),
        "Cost": _cost(plan, result, measured),
        "Recipe": _recipe(task, result),
        "Limitations": _limitations(inventory, inputs, result.metric, kind),
    }
    introduction = [
        f"{INTRODUCTIONS[kind].format(len(inputs.class_names))}, trained by vit-budget-explorer at a budget of "
        f"{escaped(result.budget)}. {_opened_by(architecture)}:",
        "",
        '```python\nmodel = timm.create_model("local-dir:PATH", pretrained=True).eval()\n```',
    ]
    body = [f"# {escaped(name)}", "", *introduction]
    for title, lines in sections.items():
        body += ["", f"## {title}", "", *lines]
    return f"---\n{_metadata(name, task, measured, result, kind)}\n---\n\n" + "\n".join(body) + "\n"


def _opened_by(architecture: str) -> str:
    module = model_entrypoint(architecture).__module__
    if module.partition(".")[0] == "timm":
        return "Plain timm opens this folder"
    return f"timm opens this folder once the module that registers the model is imported, which is not in it (`{module}`)"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line: class names and file names may contain anything."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(printable(text).split()), quote=False))


def _metadata(name: str, task: TaskSpec, measured: MeasuredMetric, result: RunResult, kind: TargetKind) -> str:
    metric, is_classifier = result.metric, kind != "values"
    evaluation = EvalResult(
        task_type="image-classification" if is_classifier else "other",
        dataset_type=_source(task),
        dataset_name=_source(task),
        dataset_split="test",
        dataset_args=measured.of_data(),
        metric_type=metric.name,
        metric_name="top-1 test accuracy" if metric == ACCURACY else f"test {metric.label}",
        metric_value=measured.value,
        metric_args=measured.of_evaluation(),
    )
    tags = [*(["image-classification"] if is_classifier else []), "timm", "vit-budget-explorer"]
    return ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification" if is_classifier else None,
        tags=tags,
        metrics=[metric.slug],
        model_name=name,
        eval_results=[evaluation],
    ).to_yaml()


def _source(task: TaskSpec) -> str:
    """The data set by its name; for folders also by the last part of their path, without the rest of it."""
    root = task.data.root
    return f"{task.data.name} {root.rstrip('/').rpartition('/')[2]}" if root and task.data.name == "folder" else task.data.name


def _expected(task: TaskSpec, plan: Plan, schedule: Schedule | None) -> str:
    if schedule is None:
        return "What to expect of the schedule is not known."
    expected = expectation(schedule, task, plan)
    if expected is None or schedule.provenance is None:
        return f"Nothing was predicted: {escaped(other_task(schedule, task) or 'the sweep ran a single seed')}."
    return f"By the sweep {escaped(schedule.provenance.sweep)}: {escaped(expected)}."


def _results(result: RunResult, inventory: Inventory, expected: str) -> list[str]:
    measured = [(result.metric, result.validation, result.test)]
    if (also := result.also) is not None:
        measured.append((also.metric, also.validation, also.test))
    lines = []
    for metric, *values in measured:
        rows = []
        for split, value in zip(("validation", "test"), values, strict=True):
            images = inventory.splits[split].images
            row: tuple[str, ...] = (split, f"{images:,}", metric.text(value, 1))
            if metric.is_fraction_of_images:
                row = (*row, "{:.2%} to {:.2%}".format(*accuracy_interval(value, images)))
            rows.append(row)
        name = "top-1 accuracy" if metric == ACCURACY else escaped(metric.label)
        columns = ("split", "images", name)
        if metric.is_fraction_of_images:
            lines += [*_table((*columns, "95 % interval"), rows), "", BINOMIAL, ""]
        else:
            lines += [*_table(columns, rows), "", f"Of the {escaped(metric.label)}, {metric.better} values are better.", ""]
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
    shown = ", ".join(escaped(name) for name in inputs.class_names[:SHOWN_CLASSES])
    more = len(inputs.class_names) - SHOWN_CLASSES
    lines = [
        f"Data set: {escaped(_source(task))}.",
        "",
        *_table(("role", "split", "images", "SHA-256 of names, sizes and labels", "SHA-256 of contents and labels"), rows),
        "",
        f"Classes: {shown}{f' and {more:,} more (config.json)' if more > 0 else ''}.",
        "",
        f"Images: {inputs.image_size} x {inputs.image_size} pixels, channels: {inputs.channels}. {_pixels(task, inputs)}",
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
    values = ", ".join(f"{name} {value}" for name, value in inputs.preprocessing.model_dump(mode="json").items())
    text = f"Preprocessing: {escaped(values)}."
    if task.data.exif_orientation != "ignore":
        text += " Images are turned upright first, as their EXIF orientation says."
    if task.data.cache and task.data.cache.short_side:
        text += f" Larger images are first reduced to a shorter side of {task.data.cache.short_side} pixels."
    return text


def _schedule(plan: Plan) -> list[str]:
    rows = [
        (
            str(row.stage + 1),
            *(row.rates.text(axis) for axis in AXES),
            f"{row.share:.1%}",
            f"{row.steps:,}",
            f"{row.epochs:.4g}",
            str(row.batch_size),
        )
        for row in plan.stages()
    ]
    return [
        "Fractions of the attention heads, MLP channels, tokens and blocks that are active in each stage:",
        "",
        *_table(("stage", *AXES, "share of the budget", "steps", "epochs", "batch size"), rows),
    ]


def _cost(plan: Plan, result: RunResult, measured: MeasuredMetric) -> list[str]:
    rows = [
        ("planned", f"{plan.flops:.6g}", f"{plan.flops / plan.full_flops:.3%}"),
        ("executed", f"{result.realised_flops:.6g}", f"{result.cost:.3%}"),
        ("full training", f"{plan.full_flops:.6g}", "100%"),
    ]
    return [
        *_table(("", "FLOPs", "share of full training"), rows),
        "",
        f"{result.steps:,} steps in {result.train_seconds:.1f} s on {escaped(measured.device)}, processes: {result.processes}.",
    ]


def _recipe(task: TaskSpec, result: RunResult) -> list[str]:
    content = {"seed": result.seed, "initialization": _initialization(task.model)}
    content |= task.model_dump(mode="json", include={"recipe", "staging"})
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{package} {version}" for package, version in installed_versions().items())
    return [*_fenced(text, "yaml"), "", f"Versions: {escaped(versions)}."]


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
        f"The {label} holds for images like those of the test split. Nothing else was measured: not other data, not "
        f"robustness, not the {label} on groups of images.",
        LIMITATIONS[kind].format(len(inputs.class_names)),
    ]
    lines += [f"{count:,} images are in both {pair}." for pair, count in inventory.overlaps.items()]
    if not inventory.checked:
        lines.append("Not every image was checked before the training.")
    return [f"- {line}" for line in lines]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _fenced(text: str, language: str) -> list[str]:
    """A code block whose fence is longer than any within the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text.rstrip("\n"), fence]
