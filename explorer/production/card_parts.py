"""What the model cards of all trainings have in common: `README.md` in plain Markdown, with metadata that the Hugging Face hub
reads. Nothing here knows which training it was; see `model_card` for `explorer train`, and `export_card` for all others.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from timm.models import model_entrypoint

from explorer.console import printable
from explorer.data.source import TargetKind
from explorer.plan import Plan
from explorer.production.measured import MeasuredMetric
from explorer.spec.binomial import accuracy_interval
from explorer.spec.data import Preprocessing
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.model_input import ModelInput
from explorer.spec.rates import AXES
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


def card_text(*, name: str, introduction: Sequence[str], sections: Mapping[str, Sequence[str]], metadata: ModelCardData) -> str:
    """The text of a card.

    Args:
        name: the title, not escaped.
        introduction: lines below the title.
        sections: the lines of each section, by its title.
        metadata: what the hub reads.
    """
    body = [f"# {escaped(name)}", "", *introduction]
    for title, lines in sections.items():
        body += ["", f"## {title}", "", *lines]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n".join(body) + "\n"


def introduction(architecture: str, kind: TargetKind, classes: int, trained: str) -> list[str]:
    """What the model is, and how it is opened.

    Args:
        architecture: timm's name of the architecture.
        kind: what the model predicts for an image.
        classes: number of its classes, labels or values.
        trained: how it was trained, as the end of a sentence.
    """
    return [
        f"{INTRODUCTIONS[kind].format(classes)}, {trained}. {opened_by(architecture)}:",
        "",
        '```python\nmodel = timm.create_model("local-dir:PATH", pretrained=True).eval()\n```',
    ]


def opened_by(architecture: str) -> str:
    """Whether plain timm opens a model of this architecture, or what has to be imported first."""
    module = model_entrypoint(architecture).__module__
    if module.partition(".")[0] == "timm":
        return "Plain timm opens this folder"
    return f"timm opens this folder once the module that registers the model is imported, which is not in it (`{module}`)"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line: class names and file names may contain anything."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(printable(text).split()), quote=False))


def metadata(
    *,
    name: str,
    kind: TargetKind,
    metric: MetricSpec | None,
    measured: MeasuredMetric | None,
    data: str,
    split: str = "test",
    **more: Any,
) -> ModelCardData:
    """What the hub reads of a card.

    Args:
        name: the title of the card.
        kind: what the model predicts for an image.
        metric: what was measured; `None` if nothing was.
        measured: its value, and how it was measured.
        data: the data set by its name.
        split: the images on which it was measured.
        more: further entries.
    """
    is_classifier, evaluations = kind != "values", None
    if metric is not None and measured is not None:
        evaluation = EvalResult(
            task_type="image-classification" if is_classifier else "other",
            dataset_type=data,
            dataset_name=data,
            dataset_split=split,
            dataset_args=measured.of_data(),
            metric_type=metric.name,
            metric_name=f"top-1 {split} accuracy" if metric == ACCURACY else f"{split} {metric.label}",
            metric_value=measured.value,
            metric_args=measured.of_evaluation(),
        )
        evaluations = [evaluation]
    tags = [*(["image-classification"] if is_classifier else []), "timm", "vit-budget-explorer"]
    return ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification" if is_classifier else None,
        tags=tags,
        metrics=[metric.slug] if metric is not None else None,
        model_name=name if evaluations else None,
        eval_results=evaluations,
        **more,
    )


def result_lines(metric: MetricSpec, values: Sequence[tuple[str, int, float]]) -> list[str]:
    """The table of a metric, and what its intervals mean.

    Args:
        metric: the metric.
        values: for each split its name, its number of images, and the value.
    """
    rows = []
    for split, images, value in values:
        row: tuple[str, ...] = (split, f"{images:,}", metric.text(value, 1))
        if metric.is_fraction_of_images:
            row = (*row, "{:.2%} to {:.2%}".format(*accuracy_interval(value, images)))
        rows.append(row)
    columns = ("split", "images", "top-1 accuracy" if metric == ACCURACY else escaped(metric.label))
    if metric.is_fraction_of_images:
        return [*table((*columns, "95 % interval"), rows), "", BINOMIAL, ""]
    return [*table(columns, rows), "", f"Of the {escaped(metric.label)}, {metric.better} values are better.", ""]


def classes_line(inputs: ModelInput) -> str:
    """The first names of the classes."""
    shown = ", ".join(escaped(name) for name in inputs.class_names[:SHOWN_CLASSES])
    more = len(inputs.class_names) - SHOWN_CLASSES
    return f"Classes: {shown}{f' and {more:,} more (config.json)' if more > 0 else ''}."


def images_line(inputs: ModelInput, pixels: str) -> str:
    """The size of the images, and how they become what the model is given."""
    return f"Images: {inputs.image_size} x {inputs.image_size} pixels, channels: {inputs.channels}. {pixels}"


def preprocessing_text(preprocessing: Preprocessing) -> str:
    """Every setting with its value."""
    values = ", ".join(f"{name} {value}" for name, value in preprocessing.model_dump(mode="json").items())
    return f"Preprocessing: {escaped(values)}."


def schedule_lines(plan: Plan, *, in_epochs: bool = True) -> list[str]:
    """The table of the stages.

    Args:
        plan: the plan.
        in_epochs: whether the length of an epoch is known.
    """
    rows = [
        (
            str(row.stage + 1),
            *(row.rates.text(axis) for axis in AXES),
            f"{row.share:.1%}",
            f"{row.steps:,}",
            *([f"{row.epochs:.4g}"] if in_epochs else []),
            str(row.batch_size),
        )
        for row in plan.stages()
    ]
    columns = ("stage", *AXES, "share of the budget", "steps", *(["epochs"] if in_epochs else []), "batch size")
    return [
        "Fractions of the attention heads, MLP channels, tokens and blocks that are active in each stage:",
        "",
        *table(columns, rows),
    ]


def cost_lines(plan: Plan, executed_flops: int, executed_cost: float, summary: str) -> list[str]:
    """The table of planned and executed cost.

    Args:
        plan: the plan.
        executed_flops: FLOPs of the steps that were executed.
        executed_cost: the same as a fraction of full training.
        summary: a sentence about the steps.
    """
    rows = [
        ("planned", f"{plan.flops:.6g}", f"{plan.flops / plan.full_flops:.3%}"),
        ("executed", f"{executed_flops:.6g}", f"{executed_cost:.3%}"),
        ("full training", f"{plan.full_flops:.6g}", "100%"),
    ]
    lines = [*table(("", "FLOPs", "share of full training's FLOPs"), rows), "", summary]
    if plan.currency == "device_seconds" and plan.seconds is not None and plan.full_seconds:
        share = f"{plan.seconds / plan.full_seconds:.3%} of full training's {plan.full_seconds:.6g}"
        lines += ["", f"The budget counts device-seconds: {plan.seconds:.6g} were planned, {share}."]
    return lines


def recipe_lines(content: Mapping[str, Any]) -> list[str]:
    """Settings of the training as YAML, and the versions of packages."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{package} {version}" for package, version in installed_versions().items())
    return [*fenced(text, "yaml"), "", f"Versions: {escaped(versions)}."]


def limits_of_test(metric: MetricSpec, split: str = "test") -> str:
    """What a measured value does not say."""
    label = escaped(metric.label)
    return (
        f"The {label} holds for images like those of the {split} split. Nothing else was measured: not other data, not "
        f"robustness, not the {label} on groups of images."
    )


def bulleted(lines: Iterable[str]) -> list[str]:
    """Lines as a list."""
    return [f"- {line}" for line in lines]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown; cells are not escaped."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def fenced(text: str, language: str) -> list[str]:
    """A code block whose fence is longer than any within the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text.rstrip("\n"), fence]
