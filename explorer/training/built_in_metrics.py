"""The built-in metrics but top-1 accuracy, from the outputs of a model as they are.

Metrics of torchmetrics take outputs for probabilities where those of a batch are all in [0, 1], and for logits otherwise. Here,
outputs for classes and labels are logits in every batch: a label is predicted where its logit is above 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics import classification, regression

from explorer.data.source import TargetKind
from explorer.training.torch_metrics import OverWholeSplit

# Shapes: B batch, N images of a split, K classes, labels or values


class MultilabelF1(torchmetrics.Metric):
    """The mean of the labels' F1 scores from counts of their images. A label that is neither there nor predicted counts as 0.

    Args:
        labels: K.
    """

    full_state_update = False

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.hits_K: Tensor
        self.sums_K: Tensor
        self.add_state("hits_K", default=torch.zeros(labels, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums_K", default=torch.zeros(labels, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits_BK: Tensor, targets_BK: Tensor) -> None:
        """Add a batch."""
        predicted_BK, true_BK = logits_BK > 0, targets_BK > 0
        self.hits_K += (predicted_BK & true_BK).sum(dim=0)
        self.sums_K += predicted_BK.sum(dim=0) + true_BK.sum(dim=0)

    def compute(self) -> Tensor:
        """The value: 2 * hits / (predicted images + images with the label), as a mean over labels."""
        return (2 * self.hits_K.double() / self.sums_K.clamp(min=1)).mean()


def area_under_roc(scores_N: Tensor, is_positive_N: Tensor) -> float:
    """How often a positive image scores higher than a negative one; equal scores count half. NaN if one kind is missing."""
    negatives, positives = scores_N[~is_positive_N].sort().values, scores_N[is_positive_N]
    pairs = len(negatives) * len(positives)
    if not pairs:
        return math.nan
    below = torch.searchsorted(negatives, positives).sum()
    not_above = torch.searchsorted(negatives, positives, right=True).sum()
    return float(below + not_above) / (2 * pairs)


def average_precision(scores_N: Tensor, is_positive_N: Tensor) -> float:
    """The mean precision over positive images, with as many images as have at least its score; 0 without a positive image."""
    sorted_N, order_N = scores_N.sort(descending=True)
    is_last_of_equal_N = torch.cat((sorted_N[1:] != sorted_N[:-1], sorted_N.new_ones(1, dtype=torch.bool)))
    ranks = is_last_of_equal_N.nonzero().flatten()
    hits = is_positive_N[order_N].cumsum(dim=0)[ranks].double()
    new_hits = hits.diff(prepend=hits.new_zeros(1))
    return float((new_hits * hits / (ranks + 1)).sum() / hits[-1].clamp(min=1))


def auc_of_classes(logits_NK: Tensor, targets_N: Tensor) -> float:
    """The mean AUC of each class against the others, over the classes that have images and lack images.

    The probabilities that are ranked are in float64: in float32, those of confident predictions would be equal.
    """
    probabilities_NK = logits_NK.double().softmax(dim=1)
    return _mean_auc((scores_N, targets_N == number) for number, scores_N in enumerate(probabilities_NK.T))


def auc_of_labels(logits_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean AUC of the labels that some images have and others do not; NaN if there is none."""
    return _mean_auc(zip(logits_NK.T, targets_NK.T > 0, strict=True))


def _mean_auc(columns: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean over columns of scores (N,) and whether images are positive (N,)."""
    areas = [area for area in (area_under_roc(*column) for column in columns) if not math.isnan(area)]
    return sum(areas) / len(areas) if areas else math.nan


def mean_average_precision(logits_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean over the labels. A label that no image has counts as 0."""
    columns = zip(logits_NK.T, targets_NK.T > 0, strict=True)
    return sum(average_precision(*column) for column in columns) / logits_NK.shape[1]


def r2(outputs_NK: Tensor, targets_NK: Tensor) -> float:
    """The mean over the values of 1 - squared errors / squared deviations of the targets from their mean.

    Sums are in float64, of centred targets: in float32, they would lose the variance of targets that are far from 0. Where all
    targets are equal, a value counts as 1 if it is predicted exactly, otherwise as 0, as in scikit-learn.

    Raises:
        ValueError: with fewer than two images.
    """
    if len(targets_NK) < 2:
        raise ValueError("R2 needs two images or more")
    targets_NK = targets_NK.double()
    errors_K = (outputs_NK.double() - targets_NK).square().sum(dim=0)
    deviations_K = (targets_NK - targets_NK.mean(dim=0)).square().sum(dim=0)
    of_equal_targets_K = (errors_K == 0).double()
    return float(torch.where(deviations_K > 0, 1 - errors_K / deviations_K, of_equal_targets_K).mean())


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
    ("f1", "labels"): MultilabelF1,
    ("auc", "labels"): _any_number(OverWholeSplit, auc_of_labels),
    ("r2", "values"): _any_number(OverWholeSplit, r2),
    ("mae", "values"): _any_number(regression.MeanAbsoluteError),
    ("rmse", "values"): _any_number(regression.MeanSquaredError, squared=False),
}
"""Built-in metrics for each kind of targets. Of several classes or labels, the plain mean over them (`macro`) is taken."""
