"""Laws of error against training cost: the candidates between which a prediction is averaged.

Each law is written through its value at the largest trained cost, which the data determine directly, and two parameters that
they determine less well: an exponent (how fast the error falls) and a floor (what is left at infinite cost). All laws fall.

Sources: power laws of learning curves, Hestness et al. 2017 and Kaplan et al. 2020; the log-logistic law is the one that
Alabdulmohsin et al. 2022 call M4, with alpha = 1: a power law in the odds of an error; Weibull's (Janoschek's) and the
exponential one are among the eleven that Domhan et al. 2015 compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

Array = NDArray[np.float64]

SMALLEST_ERROR = 1e-5
"""Errors and accuracies are kept this far from 0, where the logit is infinite."""


@dataclass(frozen=True)
class Law:
    """Error as a function of cost. In `formula`, x is cost over the largest trained one, and r the error there."""

    name: str
    formula: str
    has_floor: bool
    """False fixes the floor at 0: the accuracy tends to 100 %."""
    error: Callable[[Array, Array, Array, Array], Array]
    """From x, error at x = 1, exponent and floor, which broadcast against each other; values may leave [0, 1]."""

    def logit(self, x: Array, error_at_largest: Array, exponent: Array, floor: Array) -> Array:
        """Logit of the accuracy.

        Args:
            x: (..., M) costs over the largest trained one.
            error_at_largest: (D, 1) errors at x = 1.
            exponent: (D, 1)
            floor: (D, 1) below `error_at_largest`.

        Returns:
            (D, M)
        """
        with np.errstate(over="ignore"):
            error = self.error(x, error_at_largest, exponent, floor)
        return -logit(np.clip(error, SMALLEST_ERROR, 1 - SMALLEST_ERROR))


def _power(x: Array, at_largest: Array, exponent: Array, floor: Array) -> Array:
    return floor + (at_largest - floor) * x**-exponent


def _log_logistic(x: Array, at_largest: Array, exponent: Array, floor: Array) -> Array:
    odds = (at_largest - floor) / (1 - at_largest) * x**-exponent
    return (floor + odds) / (1 + odds)


def _weibull(x: Array, at_largest: Array, exponent: Array, floor: Array) -> Array:
    rate = np.log((1 - floor) / np.maximum(at_largest - floor, SMALLEST_ERROR**2))
    return floor + (1 - floor) * np.exp(-rate * x**exponent)


def _exponential(x: Array, at_largest: Array, exponent: Array, floor: Array) -> Array:
    return floor + (at_largest - floor) * np.exp(-exponent * (x - 1))


LAWS = (
    Law("power", "r x^-k", False, _power),
    Law("power with floor", "a + (r - a) x^-k", True, _power),
    Law("log-logistic", "e / (1 - e) = q x^-k", False, _log_logistic),
    Law("log-logistic with floor", "(e - a) / (1 - e) = q x^-k", True, _log_logistic),
    Law("Weibull", "exp(-b x^k)", False, _weibull),
    Law("Weibull with floor", "a + (1 - a) exp(-b x^k)", True, _weibull),
    Law("exponential with floor", "a + (r - a) exp(-k (x - 1))", True, _exponential),
)
"""All candidates; each has the same prior weight."""
