"""The objective of an open task: what is minimized in training, and what is measured in evaluation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.data.source import DataSource, HasLabels, TargetKind, target_kind
from explorer.data.stream import BalancedOrder
from explorer.errors import InvalidInput
from explorer.references import is_reference
from explorer.spec.metric import MetricSpec
from explorer.spec.task import TaskSpec
from explorer.training.losses import DESCRIBED, FIELD, Loss, make_loss
from explorer.training.metrics import Measure
from explorer.training.teacher import TeacherModel, distillation_loss

# Shapes: B batch, C channels, H height, W width, K classes, labels or values

CHECKED_TARGETS = 2
"""Images of each class in the batch with which loss and metric are tried before any training."""


class Objective:
    """Loss and metrics for the data of a task. Code of the user's is imported here, from the names in the task alone.

    Args:
        spec: of the task.
        data: its data.
        normalization: mean and standard deviation with which its images are normalized; `None` if they are unknown.

    Raises:
        InvalidInput: when objective, recipe and data do not fit together, or something of the user's cannot be imported.
    """

    def __init__(
        self, spec: TaskSpec, data: DataSource, normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    ) -> None:
        self.spec, self.kind, self.classes = spec.objective, target_kind(data), data.classes
        self._mixes, objective = spec.recipe.augmentation.mixes, spec.objective
        if self._mixes and self.kind != "class":
            name = "mixup" if spec.recipe.augmentation.mixup else "cutmix"
            value = getattr(spec.recipe.augmentation, name)
            raise InvalidInput(f"recipe.augmentation.{name}", value, f"mixes classes, and the data has {DESCRIBED[self.kind]}")
        self._loss: Loss = make_loss(objective, self.kind, spec.recipe.label_smoothing, data)
        arguments = (self.kind, self.classes, objective.unit)
        self.measures = [Measure(objective.metric, objective.metric_options, *arguments, "objective.metric")]
        if objective.also is not None:
            unit = None if is_reference(objective.also) else objective.unit
            self.measures.append(
                Measure(objective.also, objective.also_options, self.kind, self.classes, unit, "objective.also")
            )
        self.order = self._balanced_order(data) if objective.sampling == "balanced" else None
        """The order of training images, where it is not that of permutations."""
        self.teacher: TeacherModel | None = None
        if objective.teacher is not None:
            if self.kind != "class":
                raise InvalidInput("objective.teacher.model", objective.teacher.model, f"cannot teach {DESCRIBED[self.kind]}")
            image_shape = (data.channels, data.image_size, data.image_size)
            self.teacher = TeacherModel(objective.teacher, self.classes, image_shape, normalization)

    def _balanced_order(self, data: DataSource) -> BalancedOrder:
        field = "objective.sampling"
        if self.kind != "class":
            raise InvalidInput(field, "balanced", f"is for one class per image, and the data has {DESCRIBED[self.kind]}")
        if not isinstance(data, HasLabels):
            raise InvalidInput(
                field, "balanced", "this data source cannot be sampled: it does not say the labels of its images"
            )
        labels_N = torch.tensor(data.train_labels)
        counts_K = torch.bincount(labels_N, minlength=data.classes)
        if not counts_K.all():
            reason = f"needs training images of every class: class {int(counts_K.argmin())} has no image"
            raise InvalidInput(field, "balanced", reason)
        return BalancedOrder(labels_N)

    @property
    def metric(self) -> MetricSpec:
        """The metric that is optimized."""
        return self.measures[0].metric

    @property
    def also(self) -> MetricSpec | None:
        """The second metric that is recorded; `None` without one."""
        return self.measures[1].metric if len(self.measures) > 1 else None

    def training_loss(self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor, images_BCHW: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            outputs: of the model (B, K); of a distilled model in training, those for the labels and those for the teacher.
            targets: as `TargetKind` says, or class probabilities (B, K) of mixed images.
            images_BCHW: what the model was given, for the teacher.
        """
        if self.teacher is None:
            assert isinstance(outputs, Tensor)
            return self._loss_on(images_BCHW.device)(outputs, targets)
        of_labels_BK, of_teacher_BK = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        base = self._loss_on(images_BCHW.device)(of_labels_BK, targets)
        learned = distillation_loss(of_teacher_BK, self.teacher(images_BCHW), self.teacher.spec)
        return (1 - self.teacher.spec.alpha) * base + self.teacher.spec.alpha * learned

    def check(self) -> None:
        """Try loss and metrics on a tiny batch of random outputs, and the teacher on an image.

        Raises:
            InvalidInput: when the loss is no scalar, is not finite or has no gradient, a metric is not a finite number, or the
                teacher cannot be used.
        """
        outputs_BK = torch.randn(max(8, CHECKED_TARGETS * self.classes), self.classes, generator=_generator(0))
        targets = example_targets(self.kind, *outputs_BK.shape)
        self._check_loss(outputs_BK, targets)
        if self._mixes:
            self._check_loss(outputs_BK, functional.one_hot(targets, self.classes).float() * 0.7 + 0.3 / self.classes)
        for measure in self.measures:
            measure.check(outputs_BK, targets)
        if self.teacher is not None:
            self.teacher.check()

    def _check_loss(self, outputs_BK: Tensor, targets: Tensor) -> None:
        outputs_BK = outputs_BK.clone().requires_grad_()
        given = f"outputs {tuple(outputs_BK.shape)} and targets {tuple(targets.shape)} of {targets.dtype}"
        try:
            loss = self._loss_on(torch.device("cpu"))(outputs_BK, targets)
        except Exception as error:  # code of the user's may fail in any way
            raise InvalidInput(FIELD, self.spec.loss, f"fails with {given}: {type(error).__name__}: {error}") from error
        if not isinstance(loss, Tensor) or loss.shape != ():
            shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InvalidInput(FIELD, self.spec.loss, f"must return a scalar tensor, and returns {shape} for {given}")
        if not math.isfinite(float(loss.detach())):
            raise InvalidInput(FIELD, self.spec.loss, f"is {float(loss.detach())} for {given}")
        reason = "has no gradient: it must be computed from the outputs by differentiable operations of torch"
        if not loss.requires_grad:
            raise InvalidInput(FIELD, self.spec.loss, reason)
        try:
            (gradient_BK,) = torch.autograd.grad(loss, outputs_BK, allow_unused=True)
        except Exception as error:
            raise InvalidInput(FIELD, self.spec.loss, f"{reason}: {type(error).__name__}: {error}") from error
        if gradient_BK is None or not gradient_BK.any():
            raise InvalidInput(FIELD, self.spec.loss, reason)
        if not gradient_BK.isfinite().all():
            raise InvalidInput(FIELD, self.spec.loss, f"has gradients that are not finite for {given}")

    def _loss_on(self, device: torch.device) -> Loss:
        """The loss with its weights on a device."""
        return self._loss.to(device) if isinstance(self._loss, nn.Module) else self._loss


def example_targets(kind: TargetKind, images: int, classes: int) -> Tensor:
    """Targets of a tiny batch, in which every class has images and every label is there and is not."""
    number_B = torch.arange(images)
    if kind == "class":
        return number_B % classes
    if kind == "labels":
        return ((number_B[:, None] + torch.arange(classes)) % 2).float()
    return torch.randn(images, classes, generator=_generator(1))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
