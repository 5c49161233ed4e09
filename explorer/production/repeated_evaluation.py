"""Repeats the test accuracy of a trained model from its folder alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from explorer.data import Batch, DataSource, open_data
from explorer.data.streamed import StreamedData
from explorer.errors import InvalidInput
from explorer.production.measured import MeasuredAccuracy
from explorer.production.model_folder import CARD, ModelFolder
from explorer.spec.binomial import accuracy_interval
from explorer.spec.data import DataSpec, Preprocessing
from explorer.training.device import available_device, device_name
from explorer.training.evaluation import correct_and_seen

SHOWN_CLASSES = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class RepeatedEvaluation:
    """The test accuracy of a model, measured again."""

    measured: MeasuredAccuracy
    stated: MeasuredAccuracy | None
    """What the model card states; `None` if it states none."""
    reordered: bool
    """Whether the data numbers the classes in another order than the model."""

    @property
    def lines(self) -> list[str]:
        """What was measured, and whether the card states the same."""
        measured = self.measured
        low, high = accuracy_interval(measured.accuracy, measured.images)
        lines = [
            f"test accuracy {measured.accuracy:.4%}, 95 % interval {low:.2%} to {high:.2%}: {measured.correct:,} of "
            f"{measured.images:,} images, on {_where(measured)}"
        ]
        if self.reordered:
            lines.append("the data numbers the classes in another order than the model: labels were matched by name")
        return [*lines, self._agreement]

    @property
    def _agreement(self) -> str:
        stated, measured = self.stated, self.measured
        if stated is None:
            return f"nothing to compare with: {CARD} states no test accuracy that `explorer train` measured"
        there = f"{stated.accuracy:.4%}, {stated.correct:,} of {stated.images:,} images"
        if stated.listing != measured.listing:
            return f"not comparable with the model card ({there}): these are other images, file names, or numbers of classes"
        if (stated.accuracy, stated.images) == (measured.accuracy, measured.images):
            return "agrees exactly with the model card"
        return f"DIFFERS from the model card: {there}, on {_where(stated)}"


def repeat_evaluation(folder: ModelFolder, data: DataSpec) -> RepeatedEvaluation:
    """Evaluate a model on the test images of a data set, in the way that its card describes.

    Size and preprocessing of the images are those of the folder. The accuracy is measured with the backend and the number of
    threads that the card states, and on a GPU, in its precision, if the card's was measured on one and there is one here.

    Args:
        folder: the model's folder.
        data: the data set, with the size and preprocessing that `data_for` gives it.

    Raises:
        InvalidInput: when the folder or the data cannot be used, or the data has other classes.
    """
    stated = MeasuredAccuracy.in_card(folder.folder / CARD)
    model, source = folder.load_model(), open_data(data)
    names = folder.model_input.class_names
    if source.channels != folder.model_input.channels:
        reason = f"has images of {source.channels} channels, and the model takes {folder.model_input.channels}"
        raise InvalidInput("data.name", data.name, reason)
    label_K = _labels_of_model(names, source.inventory.class_names, data)
    gpus = 0 if stated and stated.device == "cpu" else 1
    device = torch.device(available_device(gpus))
    backend = stated.backend if stated and isinstance(source, StreamedData) else "pil"
    if isinstance(source, StreamedData):
        source = source.with_backend(backend)
    precision = stated.precision if stated and (device.type == "cuda" or stated.device == "cpu") else "float32"
    if stated:
        torch.set_num_threads(min(stated.threads, os.cpu_count() or 1))
    batches = _renumbered(source, label_K.to(device), device)
    mixed = None if precision == "float32" else precision
    correct, images = correct_and_seen(model.to(device), batches, device, mixed).tolist()
    measured = MeasuredAccuracy(
        accuracy=correct / images,
        images=images,
        listing=source.inventory.test.listing,
        device=device_name(device.type),
        precision=precision,
        backend=backend,
        threads=torch.get_num_threads(),
    )
    return RepeatedEvaluation(measured, stated, reordered=label_K.tolist() != list(range(len(names))))


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
    """The test images, with the model's numbers of their classes."""
    for images_BCHW, labels_B in source.evaluation_batches("test", device):
        yield images_BCHW, label_K[labels_B]


def _where(measured: MeasuredAccuracy) -> str:
    device = "the CPU" if measured.device == "cpu" else measured.device
    return f"{device} in {measured.precision}"
