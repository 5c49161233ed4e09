"""A metric of a folder's model on the batches of a user's data loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explorer.data import Batch
from explorer.data.source import TargetKind
from explorer.errors import InvalidInput
from explorer.production.exported_model import HandedOver
from explorer.production.measured import MeasuredMetric
from explorer.training.device import device_name
from explorer.training.distributed import Processes
from explorer.training.evaluation import NotMeasuredError, check_measured, measured
from explorer.training.metrics import Measure

# Shapes: B batch, C channels, H height, W width, K classes

KEYS = (("pixel_values", "labels"), ("image", "label"))
"""Names of images and targets in batches that are mappings, as Hugging Face's Trainer and data sets have them."""
TOLERANCES = {torch.float32: 0.01, torch.float64: 0.01}
"""Largest difference of outputs, relative to the largest output, for each type of weights."""
TOLERANCE_OF_HALF = 0.05
"""The same for weights of lower precision: timm opens them in float32."""


def check_loader(loader: Iterable[Any]) -> None:
    """Check that a loader does not divide its images among processes: the main process alone measures.

    Raises:
        InvalidInput: when it does.
    """
    if not isinstance(loader, Iterable):
        raise InvalidInput("loader", type(loader).__name__, "must give batches of images and targets")
    batch_sampler = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
        count = max(getattr(sampler, name, 1) for name in ("num_replicas", "num_processes"))
        if isinstance(count, int) and count > 1:
            reason = f"divides the images among {count} processes: give a loader of all of them, which the main process reads"
            raise InvalidInput("loader", type(sampler).__name__, reason)
    prepared = type(loader).__module__.startswith("accelerate.")
    if prepared and Processes.here().count > 1:
        raise InvalidInput("loader", type(loader).__name__, "divides the images among processes: give one of all images")


def measured_with(
    opened: nn.Module, over: HandedOver, measure: Measure | None, targets: TargetKind, loader: Iterable[Any] | None
) -> MeasuredMetric | None:
    """Check that the model that timm opens is the one that was trained, and measure it on the batches of a loader.

    Args:
        opened: the model from the folder, on the CPU.
        over: what was handed over, at full size.
        measure: the metric; `None` without a loader.
        targets: kind of the targets.
        loader: the images; `None` compares the two models on random ones, and measures nothing.

    Raises:
        InvalidInput: when the models have different outputs, or the batches do not fit.
    """
    device = next(over.model.parameters()).device
    opened = opened.to(device)
    shape_CHW = (over.inputs.channels, over.inputs.image_size, over.inputs.image_size)
    if loader is None or measure is None:
        _compare(opened, over, torch.randn(2, *shape_CHW, generator=torch.Generator().manual_seed(0)).to(device))
        return None
    images = 0

    def batches() -> Iterator[Batch]:
        nonlocal images
        for batch in loader:
            images_BCHW, answers = _checked(batch, shape_CHW, targets, len(over.inputs.class_names))
            images_BCHW, answers = images_BCHW.to(device, torch.float32), answers.to(device)
            if not images:
                _compare(opened, over, images_BCHW)
            images += len(images_BCHW)
            yield images_BCHW, answers
        if not images:
            raise InvalidInput("loader", "no batches", "must give at least one image")

    result = measured(opened, batches(), [measure], device, None)
    try:
        check_measured([measure], result, "given")
    except NotMeasuredError as error:
        raise InvalidInput("metric", measure.metric.name, str(error)) from None
    return MeasuredMetric(
        metric=measure.metric.name,
        value=result.values[0],
        images=images,
        device=device_name(device.type),
        precision="float32",
        backend="loader",
        threads=torch.get_num_threads(),
    )


def _checked(batch: Any, shape_CHW: tuple[int, int, int], kind: TargetKind, classes: int) -> Batch:
    """Images and targets of a batch, checked against the model."""
    pair: Any = batch
    if isinstance(batch, Mapping):
        pair = next(([batch[one], batch[other]] for one, other in KEYS if one in batch and other in batch), None)
    if not isinstance(pair, (tuple, list)) or len(pair) < 2 or not all(isinstance(part, Tensor) for part in pair[:2]):
        reason = "must give pairs of tensors, images and targets, or mappings with pixel_values and labels"
        raise InvalidInput("loader", type(batch).__name__, reason)
    images_BCHW, targets = pair[0], pair[1]
    if tuple(images_BCHW.shape[1:]) != shape_CHW or not images_BCHW.is_floating_point():
        reason = f"must give preprocessed images of shape (B, {', '.join(map(str, shape_CHW))})"
        raise InvalidInput("loader", f"{images_BCHW.dtype} {tuple(images_BCHW.shape)}", reason)
    if kind == "class":
        whole = not targets.is_floating_point() and targets.shape == images_BCHW.shape[:1]
        if not whole or (len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < classes):
            reason = f"must give one class for each image, from 0 to {classes - 1}"
            shown = f"{targets.dtype} {tuple(targets.shape)}"
            shown = f"{int(targets.min())} to {int(targets.max())}" if whole else shown
            raise InvalidInput("loader: targets", shown, reason)
    elif targets.shape != (len(images_BCHW), classes):
        raise InvalidInput("loader: targets", tuple(targets.shape), f"must have shape ({len(images_BCHW)}, {classes})")
    return images_BCHW, targets


@torch.no_grad()
def _compare(opened: nn.Module, over: HandedOver, images_BCHW: Tensor) -> None:
    """Compare the outputs of the model that timm opens with those of the one that was trained."""
    dtype = next(over.model.parameters()).dtype
    with _evaluating(over.model):
        expected_BK = over.model(images_BCHW.to(dtype)).float()
    outputs_BK = opened.eval()(images_BCHW)
    name, difference = over.config["architecture"], float((outputs_BK - expected_BK).abs().max())
    if not bool(expected_BK.isfinite().all()):
        raise InvalidInput("model", name, "has outputs that are NaN or infinite")
    if not difference <= TOLERANCES.get(dtype, TOLERANCE_OF_HALF) * float(expected_BK.abs().max()):
        reason = f"has other outputs where timm opens it (by {difference:.3g}): its forward pass is not timm's"
        raise InvalidInput("model", name, reason)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation within the context; each of its modules returns to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
