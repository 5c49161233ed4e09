"""The objective of a task: the loss that is trained and the metric that is optimized."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.references import FORM, is_reference
from explorer.spec.base import Settings
from explorer.spec.imports import MAY_IMPORT, as_reference
from explorer.spec.metric import BUILT_IN, MetricSpec

LOSSES = ("cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber")
"""Names of the built-in losses."""
CLASSIFICATION_LOSSES = ("cross_entropy", "binary_cross_entropy")
"""Built-in losses over classes, which take class weights."""
WITH_UNIT = ("mae", "rmse")
"""Built-in metrics in the unit of the targets."""


def _known(names: tuple[str, ...], what: str) -> AfterValidator:
    def check(name: str) -> str:
        if name in names or is_reference(name):
            return name
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {what}; {hint}Allowed are {', '.join(names)} and {FORM}")

    return AfterValidator(check)


LossName = Annotated[str, _known(LOSSES, "loss")]
MetricName = Annotated[str, _known(tuple(BUILT_IN), "metric")]


class Teacher(Settings):
    """A model whose outputs the trained model learns, too (DeiT, arXiv 2012.12877, section 4)."""

    model: str
    """Name of a timm model."""
    weights: str | None = None
    """File with its weights for the classes of this task, such as the `model.safetensors` of `explorer train`. `None` takes
    timm's pretrained weights, which must have as many classes."""
    options: dict[str, Any] = {}
    """Keyword arguments of `timm.create_model`."""
    kind: Literal["hard", "soft"] = "hard"
    """What is learned of the teacher: the class that it predicts (`hard`), or its probabilities (`soft`)."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of what is learned of the teacher; that of the labels is 1 - `alpha`."""
    temperature: float = Field(1.0, gt=0)
    """Of `soft`: both models' outputs are divided by it."""
    sha256: str | None = None
    """Digest of the file of weights. It is computed where the task is opened; where it is given, the file must have it."""

    @model_validator(mode="after")
    def _check(self) -> Teacher:
        if self.kind == "hard" and self.temperature != 1:
            raise ValueError(f"temperature: {self.temperature:g} acts with kind: soft only")
        return self


class ObjectiveSpec(Settings):
    """The loss that is trained, and the metric that is optimized and reported."""

    loss: Annotated[LossName, BeforeValidator(as_reference), MAY_IMPORT] = "cross_entropy"
    """`cross_entropy`; `binary_cross_entropy`, one decision per class, as DeiT III trains, and for several labels per image;
    `mean_squared_error`, `mean_absolute_error` and `huber` for values. `package.module:name` is a loss of your own: a function
    (or a `torch.nn.Module` class) of outputs and targets."""
    loss_options: dict[str, Any] = {}
    """Keyword arguments of the loss. Of `binary_cross_entropy`: `target_threshold` and `sum_classes`, as in timm; of `huber`:
    `delta`."""
    metric: Annotated[MetricName, BeforeValidator(as_reference), MAY_IMPORT] = "accuracy"
    """What schedules are compared by. For one class per image: `accuracy`, `balanced_accuracy`, `f1`, `auc`; for several labels
    per image: `mean_average_precision`, `f1`, `auc`; for values: `r2`, `mae`, `rmse`. `package.module:name` is a metric of your
    own: a `torchmetrics.Metric` class, or a function of all outputs and targets."""
    metric_options: dict[str, Any] = {}
    """Keyword arguments of a metric of your own."""
    unit: str | None = Field(None, max_length=30)
    """Unit of the targets (`years`), in which `mae` and `rmse` are shown, as the metric or the second one; for a metric of your
    own, its unit. `None` for none, or what a metric of your own says."""
    also: Annotated[MetricName | None, BeforeValidator(as_reference), MAY_IMPORT] = None
    """A second metric, which is recorded and shown; nothing is chosen by it."""
    also_options: dict[str, Any] = {}
    """Keyword arguments of the second metric."""
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] | Literal["balanced"] | None = None
    """Weight of each class in the loss, in the order of the classes. `balanced`: in inverse proportion to the number of
    training images, with a mean of 1 over the images; for several labels per image, the weight of an image that has a label is
    the number of images without it over that of images with it. `None`: all classes count alike."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """`balanced`: every class is drawn equally often, with replacement, in epochs of the usual length. `uniform`: each image
    once per epoch."""
    teacher: Teacher | None = None
    """A teacher whose outputs are learned, too (distillation). Its forward pass is part of the cost of every step."""

    @model_validator(mode="after")
    def _check(self) -> ObjectiveSpec:
        if self.metric == self.also and self.metric_options == self.also_options:
            raise ValueError(f"also: {self.also} is the metric itself")
        if self.also_options and self.also is None:
            raise ValueError("also_options: there is no second metric (also)")
        for field, name in (("metric_options", self.metric), ("also_options", self.also)):
            if getattr(self, field) and name is not None and not is_reference(name):
                raise ValueError(f"{field}: {name} has no options")
        if self.class_weights is not None and self.loss not in CLASSIFICATION_LOSSES:
            raise ValueError(f"class_weights: the loss {self.loss} takes none; use {' or '.join(CLASSIFICATION_LOSSES)}")
        if self.unit is not None and not (is_reference(self.metric) or {self.metric, self.also} & set(WITH_UNIT)):
            named = self.metric if self.also is None else f"{self.metric} and {self.also}"
            raise ValueError(f"unit: is that of {' and '.join(WITH_UNIT)}; it does not apply to {named}")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what differs from the defaults, so that keys do not depend on fields that come later."""
        content = handler(self)
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {name: value for name, value in content.items() if getattr(self, name) != defaults[name]}


def described_metric(name: str, unit: str | None = None) -> MetricSpec:
    """The description of a built-in metric.

    Args:
        name: of the metric.
        unit: of the targets, for `WITH_UNIT`; `None` for none.
    """
    metric = BUILT_IN[name]
    return metric if unit is None or name not in WITH_UNIT else metric.model_copy(update={"unit": unit})
