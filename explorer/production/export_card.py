"""The model card of a training in anybody's loop, of which the schedule is known, and little of data and recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
)
from explorer.production.exported_model import HandedOver
from explorer.production.measured import MeasuredMetric
from explorer.production.staged_training import StagedTraining
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.rates import Axis

PLAN = "explorer_plan"
"""Key of the plan's digest in the metadata of a card."""
OF_WEIGHTS: tuple[Axis, ...] = ("heads", "mlp", "depth")
"""Axes of the model that have weights; with fewer tokens, all weights are trained."""
OF_OPTIMIZERS = ("weight_decay", "betas", "momentum", "eps")
"""Settings of an optimizer's parameter groups that a card shows."""


def export_card(
    over: HandedOver,
    staged: StagedTraining,
    *,
    measured: MeasuredMetric | None,
    metric: MetricSpec | None,
    split: str,
    data: str | None,
    kind: TargetKind,
) -> str:
    """The text of the card.

    Args:
        over: what is handed over.
        staged: the training.
        measured: what was measured on the folder; `None` if nothing was.
        metric: the metric of it.
        split: name of the images on which it was measured.
        data: name of the data set; `None` if it is not known.
        kind: what the model predicts for an image.
    """
    architecture, plan = over.config["architecture"], staged.plan
    name = f"{architecture} trained on {data}" if data else f"{architecture} trained in stages"
    first = introduction(
        architecture,
        kind,
        len(over.inputs.class_names),
        f"trained with a schedule of vit-budget-explorer at a budget of {escaped(str(plan.budget))}",
    )
    if early := early_end(staged):
        first += ["", f"**{early}**"]
    return card_text(
        name=name,
        introduction=first,
        sections={
            "Accuracy" if metric in (None, ACCURACY) else "Results": _results(measured, metric, split),
            "Data": _data(over, data),
            "Schedule": schedule_lines(plan, in_epochs=staged.epoch_steps is not None),
            "Cost": _cost(staged),
            "Recipe": _recipe(over, staged),
            "Limitations": _limitations(over, measured, metric, split, kind),
        },
        metadata=metadata(
            name=name,
            kind=kind,
            metric=metric,
            measured=measured,
            data=data or "not named",
            split=split,
            **{PLAN: plan.digest()},
        ),
    )


def early_end(staged: StagedTraining) -> str | None:
    """That training ended before its schedule did; `None` if it did not."""
    if staged.done:
        return None
    text = (
        f"Training ended early: {staged.begun:,} of the {staged.plan.steps:,} steps of the schedule, {staged.spent:.1%} of the "
        "budget."
    )
    if staged.lr_schedule is not None:
        text += " The learning rate had not decayed to its end."
    reached, _ = staged.plan.position(max(0, staged.begun - 1))
    if any(reached.rates.reduces(axis) for axis in OF_WEIGHTS):  # rates never fall: these were reduced in every step
        text += " Parts of the model were not active in any step, and were not trained."
    return text


def _results(measured: MeasuredMetric | None, metric: MetricSpec | None, split: str) -> list[str]:
    if measured is None or metric is None:
        return ["Nothing was measured."]
    return [
        *result_lines(metric, [(escaped(split), measured.images, measured.value)]),
        f"Measured on this folder, opened by timm, in {measured.precision} on {escaped(measured.device)}, with the images of "
        "the training's own data loader. What to expect of the schedule is not known.",
    ]


def _data(over: HandedOver, data: str | None) -> list[str]:
    pixels = over.inputs.preprocessing
    text = preprocessing_text(pixels) if pixels else ""
    if over.assumed:
        text += (
            f" Of these, the training did not state {', '.join(over.assumed)}: assumed as in timm's configuration of the model."
        )
    named = f"Data set: {escaped(data)}." if data else "Data set: not named."
    lines = [f"{named} The training images were not recorded.", "", classes_line(over.inputs), ""]
    return [*lines, images_line(over.inputs, text)]


def _cost(staged: StagedTraining) -> list[str]:
    plan, begun = staged.plan, staged.begun
    executed = executed_flops(plan, begun)
    summary = f"{begun:,} of {plan.steps:,} steps, {staged.spent:.1%} of the budget. Their time was not recorded."
    return cost_lines(plan, executed, executed / plan.full_flops, summary)


def executed_flops(plan: Plan, steps: int) -> int:
    """FLOPs of the first steps of a plan."""
    flops = 0
    for segment in plan.segments:
        taken = min(steps, segment.steps)
        flops, steps = flops + taken * segment.step_flops, steps - taken
    return flops


def _recipe(over: HandedOver, staged: StagedTraining) -> list[str]:
    peaks = [float(peak) for peak in staged.peak_learning_rates]
    optimizers = []
    for optimizer in staged.optimizers:
        groups = optimizer.param_groups
        of_groups, peaks = peaks[: len(groups)], peaks[len(groups) :]
        settings: dict[str, Any] = {"name": type(optimizer).__name__, "learning_rate": _one_or_all(of_groups)}
        for name in OF_OPTIMIZERS:
            if values := [group[name] for group in groups if _is_plain(group.get(name))]:
                settings[name] = _one_or_all(values)
        optimizers.append(settings)
    lr_schedule = staged.lr_schedule.model_dump(mode="json") if staged.lr_schedule else "that of the training's own code"
    content = {
        "weights": "average of the weights" if over.is_average else "as trained",
        "optimizers": optimizers,
        "lr_schedule": lr_schedule,
        "batch_size": staged.plan.batch_size,
        "full_steps": staged.full_steps,
        **({} if staged.epoch_steps is None else {"epoch_steps": staged.epoch_steps}),
        "staging": staged.staging.model_dump(mode="json"),
    }
    not_known = "Initialization, loss, augmentation, and seed were not recorded."
    return [*recipe_lines(content), "", not_known]


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, tuple) and all(isinstance(each, float) for each in value))


def _one_or_all(values: Sequence[Any]) -> Any:
    """The value of all parameter groups, or the different ones in order."""
    different = [list(value) if isinstance(value, tuple) else value for value in dict.fromkeys(values)]
    return different[0] if len(different) == 1 else different


def _limitations(
    over: HandedOver, measured: MeasuredMetric | None, metric: MetricSpec | None, split: str, kind: TargetKind
) -> list[str]:
    measurement = ["Nothing was measured of this model."]
    if measured is not None and metric is not None:
        measurement = [
            f"This is one run. Another one gives another {escaped(metric.label)}.",
            limits_of_test(metric, escaped(split)),
        ]
    lines = [*measurement, LIMITATIONS[kind].format(len(over.inputs.class_names))]
    lines.append("If training started from published weights, their license applies: what it started from was not recorded.")
    if over.left_out:
        lines.append(f"{len(over.left_out):,} parameters of modules around the timm model are not in this folder.")
    return bulleted(lines)
