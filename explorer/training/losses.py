"""Losses by name: those of torch and timm, and `package.module:name`. A loss is a function of outputs and targets.

Every loss is a mean over images, so that the mean over the parts of a batch (processes, gradient accumulation) is that of the
batch. This is why the weights of classes are not divided by their sum in a batch, as torch does.

To add a loss outside this package, write a function `loss(outputs, targets, **options)` that returns a scalar tensor, or a
`torch.nn.Module` class whose instances are such functions, and name it in `objective.loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn
from torch.nn import functional

from explorer.data.source import DataSource, TargetKind
from explorer.errors import InvalidInput
from explorer.references import is_reference, load_reference
from explorer.spec.objective import ObjectiveSpec

# Shapes: B batch, K classes, labels or values

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs float (B, K), and targets as `TargetKind` says or class probabilities float32 (B, K), to a scalar."""

KINDS_OF_LOSSES: dict[str, tuple[TargetKind, ...]] = {
    "cross_entropy": ("class",),
    "binary_cross_entropy": ("class", "labels"),
    "mean_squared_error": ("values",),
    "mean_absolute_error": ("values",),
    "huber": ("values",),
}
"""Kinds of targets that each built-in loss can be computed with."""
OPTIONS = {"binary_cross_entropy": ("target_threshold", "sum_classes"), "huber": ("delta",)}
"""Options of the built-in losses."""
FIELD = "objective.loss"


def make_loss(spec: ObjectiveSpec, kind: TargetKind, label_smoothing: float, data: DataSource) -> Loss:
    """The training loss, without what is learned of a teacher.

    Args:
        spec: the objective.
        kind: kind of targets.
        label_smoothing: of the recipe.
        data: what is trained on, by whose training images `class_weights: balanced` is computed.

    Raises:
        InvalidInput: when the loss does not fit the targets, or cannot be made.
    """
    name, options = spec.loss, spec.loss_options
    if is_reference(name):
        return _own_loss(name, options)
    if kind not in KINDS_OF_LOSSES[name]:
        suitable = [other for other, kinds in KINDS_OF_LOSSES.items() if kind in kinds]
        raise InvalidInput(FIELD, name, f"cannot be computed with {DESCRIBED[kind]}: use {' or '.join(suitable)}")
    allowed = OPTIONS.get(name, ())
    for option in options:
        if option not in allowed:
            reason = f"{name} has {'the options ' + ', '.join(allowed) if allowed else 'no options'}"
            raise InvalidInput(f"objective.loss_options.{option}", options[option], reason)
    weight_K = _class_weights(spec, kind, data)
    if name == "cross_entropy":
        cross_entropy = partial(functional.cross_entropy, label_smoothing=label_smoothing)
        return cross_entropy if weight_K is None else _WeightedImages(partial(cross_entropy, reduction="none"), weight_K)
    if name == "binary_cross_entropy":
        return _made(FIELD, name, lambda: _binary_cross_entropy(kind, label_smoothing, weight_K, options))
    if label_smoothing:
        raise InvalidInput("recipe.label_smoothing", label_smoothing, f"acts on classes; the loss {name} has values")
    simple: dict[str, Callable[..., Tensor]] = {
        "mean_squared_error": functional.mse_loss,
        "mean_absolute_error": functional.l1_loss,
        "huber": functional.huber_loss,
    }
    return partial(simple[name], **options)


DESCRIBED: dict[TargetKind, str] = {
    "class": "one class per image",
    "labels": "any number of labels per image",
    "values": "values (regression)",
}
"""Kinds of targets, in words."""


class _WeightedImages(nn.Module):
    """A loss in which each image counts with the weight of its class, as a mean over images.

    Args:
        per_image: the loss of each image, (B,), from outputs (B, K) and targets.
        weight_K: weight of each class. That of a mixed image is the mean of its classes' by their probabilities.
    """

    def __init__(self, per_image: Loss, weight_K: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight_K)
        self._per_image = per_image

    def forward(self, outputs_BK: Tensor, targets: Tensor) -> Tensor:
        weight_K = self.get_buffer("weight")
        weight_B = weight_K[targets] if targets.ndim == 1 else (targets * weight_K).sum(dim=1)
        return (self._per_image(outputs_BK, targets) * weight_B).mean()


class _BinaryCrossEntropy(nn.Module):
    """timm's binary cross entropy, also for mixed targets, which are smoothed here: timm's mixup would have smoothed them.

    Args:
        kind: kind of targets.
        label_smoothing: of the recipe.
        pos_weight_K: weight of images that have a label; `None` if they count like others.
        options: timm's `target_threshold` and `sum_classes`.
        reduction: as in torch; `none` gives the losses of all classes, (B, K).
    """

    def __init__(
        self,
        kind: TargetKind,
        label_smoothing: float,
        pos_weight_K: Tensor | None,
        options: dict[str, Any],
        reduction: Literal["mean", "none"] = "mean",
    ) -> None:
        super().__init__()
        self._smoothing = label_smoothing if kind == "class" else 0.0
        smoothing = label_smoothing if kind == "labels" else 0.0
        dense = kind == "labels"
        self._loss = BinaryCrossEntropy(smoothing, reduction=reduction, smooth_dense=dense, pos_weight=pos_weight_K, **options)

    def forward(self, outputs_BK: Tensor, targets: Tensor) -> Tensor:
        targets_BK = targets
        if targets.ndim == 1:
            targets_BK = functional.one_hot(targets, outputs_BK.shape[1]).to(outputs_BK.dtype)
        if self._smoothing:
            targets_BK = targets_BK * (1 - self._smoothing) + self._smoothing / outputs_BK.shape[1]
        loss: Tensor = self._loss(outputs_BK, targets_BK)
        return loss


def _binary_cross_entropy(
    kind: TargetKind, label_smoothing: float, weight_K: Tensor | None, options: dict[str, Any]
) -> nn.Module:
    """Binary cross entropy with class weights: of images where each has one class, else of images that have a label."""
    if kind == "labels" or weight_K is None:
        return _BinaryCrossEntropy(kind, label_smoothing, weight_K, options)
    sum_classes = options.get("sum_classes", False)
    each = _BinaryCrossEntropy(kind, label_smoothing, None, {**options, "sum_classes": False}, reduction="none")

    def per_image(outputs_BK: Tensor, targets: Tensor) -> Tensor:
        losses_BK: Tensor = each(outputs_BK, targets)
        return losses_BK.sum(dim=1) if sum_classes else losses_BK.mean(dim=1)

    return _WeightedImages(per_image, weight_K)


def _class_weights(spec: ObjectiveSpec, kind: TargetKind, data: DataSource) -> Tensor | None:
    """Weight of each class, (K,); of images that have a label, for several labels per image."""
    given = spec.class_weights
    if given is None:
        return None
    classes = data.classes
    if given != "balanced":
        if len(given) != classes:
            raise InvalidInput("objective.class_weights", list(given), f"must be {classes} numbers, one per class")
        return torch.tensor(given)
    train = data.inventory.train
    counts = train.per_class
    if len(counts) != classes or not all(counts):
        empty = next((number for number, count in enumerate(counts) if not count), None)
        reason = "the data source does not count its images per class" if empty is None else f"class {empty} has no image"
        raise InvalidInput("objective.class_weights", given, f"needs training images of every class: {reason}")
    if kind == "class":
        return torch.tensor([train.images / (classes * count) for count in counts])
    return torch.tensor([max(train.images - count, 1) / count for count in counts])


def _own_loss(name: str, options: dict[str, Any]) -> Loss:
    made = load_reference(name, FIELD)
    if isinstance(made, type):
        made = _made(FIELD, name, lambda: made(**options))
        if isinstance(made, nn.Module) and next(made.parameters(), None) is not None:
            raise InvalidInput(FIELD, name, "has parameters, which nothing would train")
    elif options:
        made = partial(made, **options) if callable(made) else made
    if not callable(made):
        raise InvalidInput(FIELD, name, "must be a function of outputs and targets, or a torch.nn.Module class")
    loss: Loss = made
    return loss


def _made(field: str, name: str, make: Callable[[], Any]) -> Any:
    """What a class or function makes of the user's options.

    Raises:
        InvalidInput: when it raises anything.
    """
    try:
        return make()
    except Exception as error:  # code of the user's may fail in any way
        raise InvalidInput(field, name, f"cannot be made with these options: {type(error).__name__}: {error}") from error
