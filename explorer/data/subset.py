"""A stratified subset of the training images: the same for every seed, process and resumption."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from explorer.data.seeding import seed_for
from explorer.errors import InvalidInput


def stratified_subset(labels: Sequence[int], fraction: float, class_names: Sequence[str]) -> list[int]:
    """Numbers of the images of a subset, in increasing order: the same fraction of every class, rounded.

    Smaller subsets are contained in larger ones, and what is drawn of one class does not depend on the others.

    Args:
        labels: label of each image.
        fraction: fraction of the images, in (0, 1].
        class_names: names of the classes in the order of their labels, for messages.

    Raises:
        InvalidInput: naming the first class of which no image would be left.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        members[label].append(number)
    chosen: list[int] = []
    for label, numbers in sorted(members.items()):
        count = round(fraction * len(numbers))
        if not count:
            images = "1 image" if len(numbers) == 1 else f"{len(numbers)} images"
            reason = f"leaves no image of the class {class_names[label]!r}, which has {images}; must be larger"
            raise InvalidInput("data.train_fraction", fraction, reason)
        generator = torch.Generator().manual_seed(seed_for("subset", label))
        order = torch.randperm(len(numbers), generator=generator).tolist()
        chosen += [numbers[place] for place in order[:count]]
    return sorted(chosen)
