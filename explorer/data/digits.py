"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional

from explorer.data.resident import ResidentData
from explorer.spec.data import DIGITS_SIZE, DataSpec

TEST_IMAGES = 360
VALIDATION_IMAGES = 288


def open_digits(spec: DataSpec) -> ResidentData:
    """1,149 training, 288 validation and 360 test images of 10 classes, resized to `spec.image_size`.

    The split is stratified and fixed; it does not depend on the training seed.
    """
    images, labels = load_digits(return_X_y=True)
    fitted, test = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=0)
    train, validation = train_test_split(fitted, test_size=VALIDATION_IMAGES, stratify=labels[fitted], random_state=0)
    images_NCSS = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, DIGITS_SIZE, DIGITS_SIZE) / 8 - 1
    if spec.side != DIGITS_SIZE:
        images_NCSS = functional.interpolate(images_NCSS, size=spec.side, mode="bilinear", antialias=True)
    splits = {"train": train, "validation": validation, "test": test}
    return ResidentData(
        {split: images_NCSS[index] for split, index in splits.items()},
        {split: torch.tensor(labels[index]) for split, index in splits.items()},
        classes=10,
    )
