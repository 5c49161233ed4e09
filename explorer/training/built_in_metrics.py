"""The built-in metrics but top-1 accuracy, from the outputs of a model as they are.

Metrics of torchmetrics take outputs for probabilities where those of a batch are all in [0, 1], and for logits otherwise; they
also rank and sum in float32. What depends on either is computed by scikit-learn over the whole split: outputs for classes and
labels are logits there, and a label is predicted where its logit is above 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torchmetrics
from sklearn import metrics as sklearn_metrics
from torch import Tensor
from torchmetrics import classification, regression

from explorer.data.source import TargetKind
from explorer.training.torch_metrics import OverWholeSplit

# Shapes: N images of a split, K classes, labels or values


def f1_of_labels(logits_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean over the labels. A label that is neither there nor predicted counts as 0."""
    true_NK, predicted_NK = (tensor.gt(0).cpu().numpy() for tensor in (targets_NK, logits_NK))
    scores = [sklearn_metrics.f1_score(*column, zero_division=0.0) for column in zip(true_NK.T, predicted_NK.T, strict=True)]
    return sum(scores) / len(scores)


def auc_of_classes(logits_NK: Tensor, targets_N: Tensor) -> float:
    """The mean AUC of each class against the others, over the classes that have images and lack images.

    The probabilities that are ranked are in float64: in float32, those of confident predictions would be equal.
    """
    probabilities_NK = logits_NK.double().softmax(dim=1)
    return _mean_auc((targets_N == number, scores_N) for number, scores_N in enumerate(probabilities_NK.T))


def auc_of_labels(logits_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean AUC of the labels that some images have and others do not; NaN if there is none."""
    return _mean_auc(zip(targets_NK.T > 0, logits_NK.T, strict=True))


def _mean_auc(columns: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean over columns of whether images are positive (N,) and scores (N,)."""
    areas = [
        sklearn_metrics.roc_auc_score(is_positive_N.cpu().numpy(), scores_N.cpu().numpy())
        for is_positive_N, scores_N in columns
        if 0 < is_positive_N.sum() < len(is_positive_N)
    ]
    return sum(areas) / len(areas) if areas else math.nan


def mean_average_precision(logits_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean over the labels. A label that no image has counts as 0."""
    columns = zip((targets_NK > 0).cpu().numpy().T, logits_NK.cpu().numpy().T, strict=True)
    scores = [
        sklearn_metrics.average_precision_score(true_N, scores_N) if true_N.any() else 0.0 for true_N, scores_N in columns
    ]
    return sum(scores) / len(scores)


def r2(outputs_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean over the values, in float64: in float32, sums of squares lose the variance of targets that are far from 0.

    Raises:
        ValueError: with fewer than two images.
    """
    if len(targets_NK) < 2:
        raise ValueError("R2 needs two images or more")
    return float(sklearn_metrics.r2_score(targets_NK.double().cpu().numpy(), outputs_NK.double().cpu().numpy()))


Factory = Callable[[int], torchmetrics.Metric]
"""Makes a metric for a number of classes, labels or values."""


def _of_classes(metric: Callable[..., torchmetrics.Metric]) -> Factory:
    return lambda classes: metric(num_classes=classes, average="macro")


def _any_number(metric: Callable[..., torchmetrics.Metric], *arguments: Any, **options: Any) -> Factory:
    return lambda _: metric(*arguments, **options)


FACTORIES: dict[tuple[str, TargetKind], Factory] = {
    ("balanced_accuracy", "class"): _of_classes(classification.MulticlassAccuracy),
    ("f1", "class"): _of_classes(classification.MulticlassF1Score),
    ("auc", "class"): _any_number(OverWholeSplit, auc_of_classes),
    ("mean_average_precision", "labels"): _any_number(OverWholeSplit, mean_average_precision),
    ("f1", "labels"): _any_number(OverWholeSplit, f1_of_labels),
    ("auc", "labels"): _any_number(OverWholeSplit, auc_of_labels),
    ("r2", "values"): _any_number(OverWholeSplit, r2),
    ("mae", "values"): _any_number(regression.MeanAbsoluteError),
    ("rmse", "values"): _any_number(regression.MeanSquaredError, squared=False),
}
"""Built-in metrics for each kind of targets. Of several classes or labels, the plain mean over them (`macro`) is taken."""
