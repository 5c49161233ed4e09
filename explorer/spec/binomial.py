"""The uncertainty of an accuracy from the number of images that it was measured on. Arithmetic alone, of numbers or arrays."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

LEVEL = 0.95
"""Confidence level of all intervals."""
NORMAL_QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)


def binomial_error(accuracy: Any, images: Any) -> Any:
    """Standard error of an accuracy that was measured on a number of images (Agresti and Coull 1998).

    With p = (correct + 2) / (images + 4), it is sqrt(p (1 - p) / (images + 4)): close to the usual formula, and above 0 even
    where all images are right or all are wrong.

    Args:
        accuracy: in [0, 1]; a number or a numpy array (N,).
        images: number of images, of the same type.
    """
    p = (accuracy * images + 2) / (images + 4)
    return (p * (1 - p) / (images + 4)) ** 0.5


def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """95 % interval of the accuracy of one trained model over all images like those of the test, within [0, 1].

    Args:
        accuracy: as measured, in [0, 1].
        images: number of images that it was measured on.
    """
    half = NORMAL_QUANTILE * binomial_error(accuracy, images)
    return max(0.0, accuracy - half), min(1.0, accuracy + half)
