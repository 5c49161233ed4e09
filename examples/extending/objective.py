"""A loss and a metric of your own, for `objective` in a search space: `objective.loss: objective:focal_loss`."""

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(outputs_BK: Tensor, targets_B: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross entropy in which images that are classified well count less (Lin et al. 2017); keyword arguments are options."""
    log_probability_B = functional.log_softmax(outputs_BK, dim=1).gather(1, targets_B[:, None]).squeeze(1)
    return -((1 - log_probability_B.exp()) ** gamma * log_probability_B).mean()


def worst_class_error(outputs_BK: Tensor, targets_B: Tensor) -> Tensor:
    """Fraction of the images of the worst class that are classified wrongly, over all images of a split."""
    wrong_B = outputs_BK.argmax(dim=1) != targets_B
    return torch.stack([wrong_B[targets_B == label].float().mean() for label in targets_B.unique()]).max()


# What the search, the report and the command line must know of a metric.
worst_class_error.direction = "minimize"  # required
worst_class_error.label = "error of the worst class"
worst_class_error.unit = "%"  # fractions that are shown as percentages
worst_class_error.low, worst_class_error.high, worst_class_error.decimals = 0.0, 1.0, 1
