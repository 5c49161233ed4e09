"""Fashion-MNIST in memory, as a data source: `name: fashion:open_fashion`, with `root` the folder that prepare.py fills.

The images are from Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv 1708.07747.
"""

from __future__ import annotations

from sklearn.model_selection import train_test_split
from torchvision.datasets import FashionMNIST

from explorer.data.resident import ResidentData
from explorer.data.root import require_root
from explorer.spec.data import DataSpec

VALIDATION_IMAGES = 6_000


def open_fashion(spec: DataSpec) -> ResidentData:
    """54,000 training, 6,000 validation and 10,000 test images of 10 classes, 28 pixels; the split is stratified and fixed."""
    root = require_root(spec)
    fitted, test = (FashionMNIST(root, train=train) for train in (True, False))
    numbers = list(range(len(fitted)))
    train, validation = train_test_split(numbers, test_size=VALIDATION_IMAGES, stratify=fitted.targets, random_state=0)
    return ResidentData(
        {"train": fitted.data[train, None], "validation": fitted.data[validation, None], "test": test.data[:, None]},
        {"train": fitted.targets[train], "validation": fitted.targets[validation], "test": test.targets},
        classes=10,
        class_names=fitted.classes,
    )
