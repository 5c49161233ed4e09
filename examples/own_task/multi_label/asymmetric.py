"""A loss of one's own: the asymmetric loss of Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def asymmetric_loss(outputs: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Binary cross entropy in which labels that an image does not have, and that are easy, count less.

    Args:
        outputs: (B, K)
        targets: zeros and ones, (B, K)
        gamma: power of the probability by which absent labels count.
    """
    present = targets * logsigmoid(outputs)
    absent = (1 - targets) * outputs.sigmoid() ** gamma * logsigmoid(-outputs)
    return -(present + absent).sum(dim=1).mean()
