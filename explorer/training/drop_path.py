"""Stochastic depth (Huang et al., arXiv 1603.09382) at a share of the recipe's rate."""

from __future__ import annotations

from timm.layers import DropPath
from torch import nn


class DropPathRates:
    """The rates of stochastic depth of a model, which a stage may reduce.

    Args:
        model: a timm model with the rates of the recipe.
    """

    def __init__(self, model: nn.Module) -> None:
        self._full_rates = [(module, module.drop_prob) for module in model.modules() if isinstance(module, DropPath)]
        self._share = 1.0

    def set_share(self, share: float) -> bool:
        """Set every rate to a share of the recipe's, in [0, 1].

        Returns:
            Whether anything has changed. Compiled models must then be compiled again.
        """
        if share == self._share or not self._full_rates:
            return False
        for module, rate in self._full_rates:
            module.drop_prob = share * rate
        self._share = share
        return True


def has_drop_path(model: nn.Module) -> bool:
    """Whether any block of a timm model is dropped at random."""
    return any(isinstance(module, DropPath) and module.drop_prob > 0 for module in model.modules())
