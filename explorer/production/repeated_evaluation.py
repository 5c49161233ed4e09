"""Repeats what was measured of a trained model on test images, from its folder.

A folder may be from anybody. A metric of the user's that its card names is imported only if the user's own task file names it,
too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from explorer.data import Batch, DataSource, open_data
from explorer.data.source import target_kind
from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput
from explorer.production.measured import MeasuredMetric
from explorer.production.model_folder import CARD, ModelFolder
from explorer.references import is_reference
from explorer.spec.binomial import accuracy_interval
from explorer.spec.data import DataSpec, Preprocessing
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.objective import ObjectiveSpec
from explorer.training.device import available_device, device_name
from explorer.training.evaluation import NotMeasuredError, check_measured
from explorer.training.evaluation import measured as measured_values
from explorer.training.metrics import Measure

SHOWN_CLASSES = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class RepeatedEvaluation:
    """The metric of a model on test images, measured again."""

    measured: MeasuredMetric
    metric: MetricSpec
    """What was measured."""
    stated: MeasuredMetric | None
    """What the model card states; `None` if it states none."""
    reordered: bool
    """Whether the data numbers the classes in another order than the model."""

    @property
    def lines(self) -> list[str]:
        """What was measured, and whether the card states the same."""
        measured = self.measured
        lines = [f"test {self.metric.label} {self._shown(measured)}, on {_where(measured)}"]
        if self.reordered:
            lines.append("the data numbers the classes in another order than the model: labels were matched by name")
        return [*lines, self._agreement]

    @property
    def _agreement(self) -> str:
        stated, measured = self.stated, self.measured
        if stated is None:
            return f"nothing to compare with: {CARD} states no test {self.metric.label} that `explorer train` measured"
        if stated.metric != measured.metric:
            return f"not comparable with the model card, which states {stated.metric}"
        there = f"{self.metric.text(stated.value, 3)}, {_counted(stated, self.metric)}"
        if stated.backend == "loader":
            return f"not comparable with the model card ({there}): a data loader gave the images, which it does not identify"
        if stated.listing != measured.listing:
            return f"not comparable with the model card ({there}): these are other images, file names, or numbers of classes"
        if (stated.value, stated.images) == (measured.value, measured.images):
            return "agrees exactly with the model card"
        return f"DIFFERS from the model card: {there}, on {_where(stated)}"

    def _shown(self, measured: MeasuredMetric) -> str:
        """The value with what says how exact it is: of accuracy, its binomial interval."""
        value, counted = self.metric.text(measured.value, 3), _counted(measured, self.metric)
        if not self.metric.is_fraction_of_images:
            return f"{value}: {counted}"
        low, high = accuracy_interval(measured.value, measured.images)
        return f"{value}, 95 % interval {low:.2%} to {high:.2%}: {counted}"


def repeat_evaluation(folder: ModelFolder, data: DataSpec, objective: ObjectiveSpec | None = None) -> RepeatedEvaluation:
    """Evaluate a model on the test images of a data set, in the way that its card describes.

    Size and preprocessing of the images are those of the folder. The metric is measured with the backend and the number of
    threads that the card states, and on a GPU, in its precision, if the card's was measured on one and there is one here.

    Args:
        folder: the model's folder.
        data: the data set, with the size and preprocessing that `data_for` gives it.
        objective: of the user's task file, whose metric is measured; `None` measures the built-in metric that the card states,
            or accuracy.

    Raises:
        InvalidInput: when the folder or the data cannot be used, or the data has other classes.
    """
    stated = MeasuredMetric.in_card(folder.folder / CARD)
    if objective is None:
        objective = _stated_objective(stated, folder)
    model, source = folder.load_model(), open_data(data)
    names = folder.model_input.class_names
    if source.channels != folder.model_input.channels:
        reason = f"has images of {source.channels} channels, and the model takes {folder.model_input.channels}"
        raise InvalidInput("data.name", data.name, reason)
    arguments = (objective.metric_options, target_kind(source), source.classes, objective.unit)
    measure = Measure(objective.metric, *arguments, field="objective.metric")
    label_K = _labels_of_model(names, source.inventory.class_names, data)
    gpus = 0 if stated and stated.device == "cpu" else 1
    device = torch.device(available_device(gpus))
    backend = stated.backend if stated and stated.backend != "loader" and isinstance(source, StreamedData) else "pil"
    if isinstance(source, StreamedData):
        source = source.with_backend(backend)
    precision = stated.precision if stated and (device.type == "cuda" or stated.device == "cpu") else "float32"
    if stated:
        torch.set_num_threads(min(stated.threads, os.cpu_count() or 1))
    batches = _renumbered(source, label_K.to(device), device)
    mixed = None if precision == "float32" else precision
    result = measured_values(model.to(device), batches, [measure], device, mixed)
    try:
        check_measured([measure], result, "test")
    except NotMeasuredError as error:
        raise InvalidInput("objective.metric", objective.metric, str(error)) from None
    measured = MeasuredMetric(
        metric=objective.metric,
        value=result.values[0],
        images=source.inventory.test.images,
        listing=source.inventory.test.listing,
        device=device_name(device.type),
        precision=precision,
        backend=backend,
        threads=torch.get_num_threads(),
    )
    return RepeatedEvaluation(measured, measure.metric, stated, reordered=label_K.tolist() != list(range(len(names))))


def _stated_objective(stated: MeasuredMetric | None, folder: ModelFolder) -> ObjectiveSpec:
    """The objective with the metric that a card states.

    Raises:
        InvalidInput: when that is code, which a card cannot have executed.
    """
    name = stated.metric if stated else ACCURACY.name
    if is_reference(name):
        reason = f"is a metric outside of this package, and nothing that {CARD} names is imported: give --task with {name}"
        raise InvalidInput(str(folder.folder / CARD), name, reason)
    return ObjectiveSpec(metric=name)


def _counted(measured: MeasuredMetric, metric: MetricSpec) -> str:
    """On how many images something was measured; of accuracy, how many were right."""
    if not metric.is_fraction_of_images:
        return f"{measured.images:,} images"
    return f"{measured.correct:,} of {measured.images:,} images"


def data_for(folder: ModelFolder, data: DataSpec) -> DataSpec:
    """The data set with the size and the preprocessing of the images that a model was trained with."""
    inputs = folder.model_input
    changes = {"image_size": inputs.image_size, "preprocessing": inputs.preprocessing or Preprocessing(), "train_fraction": 1.0}
    return data.model_copy(update=changes)


def _labels_of_model(names: tuple[str, ...], given: tuple[str, ...], data: DataSpec) -> torch.Tensor:
    """The model's number of each class of the data, int64 (K,).

    Raises:
        InvalidInput: when the classes are not the same.
    """
    if names == given:
        return torch.arange(len(names))
    for missing, where in (
        (Counter(given) - Counter(names), "the model has no"),
        (Counter(names) - Counter(given), "the data has no"),
    ):
        if missing:
            shown = ", ".join(repr(name) for name in sorted(missing)[:SHOWN_CLASSES])
            more = f" and {len(missing) - SHOWN_CLASSES} more" if len(missing) > SHOWN_CLASSES else ""
            raise InvalidInput("data", data.name, f"must have the {len(names)} classes of the model: {where} {shown}{more}")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        reason = f"numbers its classes in another order than the model, and two of them are named {twice!r}"
        raise InvalidInput("data", data.name, reason)
    return torch.tensor([names.index(name) for name in given])


def _renumbered(source: DataSource, label_K: torch.Tensor, device: torch.device) -> Iterator[Batch]:
    """The test images, with the model's numbers of their classes, labels or values."""
    for images_BCHW, targets in source.evaluation_batches("test", device):
        if targets.ndim == 1:
            yield images_BCHW, label_K[targets]
        else:
            renumbered_BK = torch.empty_like(targets)
            renumbered_BK[:, label_K] = targets
            yield images_BCHW, renumbered_BK


def _where(measured: MeasuredMetric) -> str:
    device = "the CPU" if measured.device == "cpu" else measured.device
    return f"{device} in {measured.precision}"
