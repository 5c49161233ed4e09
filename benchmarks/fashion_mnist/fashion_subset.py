"""A part of Fashion-MNIST as a data source, `name: fashion_subset:open_fashion_subset`. Its files: fashion_mnist/prepare.py."""

from __future__ import annotations

import torch
from fashion import open_fashion
from torch import Tensor
from torch.nn import functional

from explorer.data.resident import ResidentData
from explorer.data.subset import stratified_subset
from explorer.spec.data import DataSpec

IMAGES = {"train": 5_000, "validation": 2_000, "test": 3_000}


def open_fashion_subset(spec: DataSpec) -> ResidentData:
    """5,000 training, 2,000 validation and 3,000 test images of 10 classes, stratified and fixed, at `spec.image_size`."""
    whole = open_fashion(spec)
    images, labels = {}, {}
    for split, count in IMAGES.items():
        labels_N = whole.labels[split]
        chosen = torch.tensor(stratified_subset(labels_N.tolist(), count / len(labels_N), whole.class_names))
        images[split], labels[split] = _resized(whole.images[split][chosen], spec.side), labels_N[chosen]
    return ResidentData(images, labels, whole.classes, whole.class_names)


def _resized(images_N1SS: Tensor, side: int) -> Tensor:
    if images_N1SS.shape[-1] == side:
        return images_N1SS
    smaller = functional.interpolate(images_N1SS.float(), size=side, mode="bilinear", antialias=True)
    return smaller.round().to(torch.uint8)
