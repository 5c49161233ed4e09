"""Comparisons of trainings that were tested on the same images, image by image.

An interval of one accuracy says how far that of other images could lie; see `explorer.frontier.uncertainty`. If two trainings
are compared, most of that error is common to both: an image that is hard for one is hard for the other. What remains are two
errors, drawn here for several trainings at once:

- that of the seeds, independent for each training: Student's t, with the standard error over seeds. Seeds that agree in their
  accuracy by chance still disagree on images: the error is at least what these disagreements alone would cause.
- that of the test images, common to all: a normal distribution with the covariance of the shares of seeds that classify each
  image correctly. Half of a disagreement is added to each training (after Agresti and Min 2005), so that trainings which agree
  on all images are not known to be equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explorer.frontier.uncertainty import DRAWS, UNIT_INTERVAL, students_t
from explorer.ledger.correct_images import CorrectImages
from explorer.spec.binomial import NORMAL_QUANTILE

# Shapes: N trainings, I test images, D draws


def shares_correct(trainings: Sequence[Sequence[CorrectImages | None]]) -> NDArray[np.float64] | None:
    """The share of the runs of each training that classify each test image correctly, (N, I).

    `None` where a run did not record it, or they were tested on different numbers of images.

    Args:
        trainings: the runs of each of N trainings.
    """
    recorded = [[run for run in runs if isinstance(run, CorrectImages)] for runs in trainings]  # tables have NaN for nothing
    if any(not known or len(known) < len(runs) for known, runs in zip(recorded, trainings, strict=True)):
        return None
    if len({run.images for known in recorded for run in known}) != 1:
        return None
    return np.stack([np.mean([run.flags() for run in known], axis=0) for known in recorded])


def resampled_together(
    mean: ArrayLike, seed_error: ArrayLike, seeds: ArrayLike, share_NI: NDArray[np.float64], draws: int = DRAWS
) -> NDArray[np.float64]:
    """Mean accuracies as other seeds and other test images could have given them; equal calls return equal numbers.

    Args:
        mean: (N,) mean accuracies.
        seed_error: (N,) standard errors of the means over seeds.
        seeds: (N,) numbers of seeds, at least two.
        share_NI: (N, I) share of the seeds that classify each image correctly.
        draws: D.

    Returns:
        (D, N) within [0, 1]. The columns deviate together where the trainings succeed and fail on the same images.
    """
    mean_N, seeds_N, images = np.asarray(mean, float), np.asarray(seeds, int), share_NI.shape[1]
    disagreement_N = (share_NI * (1 - share_NI)).sum(axis=1) / (seeds_N - 1) / images**2  # squared error of the means
    least_N = disagreement_N**0.5 * NORMAL_QUANTILE / students_t(seeds_N)  # known from many images: no need of Student's t
    error_N = np.maximum(np.asarray(seed_error, float), least_N)
    half_N = np.full(len(mean_N), 0.5 / (images + 2) ** 2)
    # What seeds disagree on is in the shares too, and has been counted.
    covariance_NN = np.atleast_2d(np.cov(share_NI)) / images + np.diag(half_N - disagreement_N)
    variance_N, axes_NN = np.linalg.eigh(covariance_NN)
    generator = np.random.default_rng(0)
    of_seeds_DN = error_N * generator.standard_t(seeds_N - 1, size=(draws, len(mean_N)))
    of_images_DN = generator.standard_normal((draws, len(mean_N))) * np.maximum(0, variance_N) ** 0.5 @ axes_NN.T
    return np.clip(mean_N + of_seeds_DN + of_images_DN, *UNIT_INTERVAL)
