"""A model of step times, fitted to those that were measured: seconds of a step at rates that were not.

A step's time is a sum of non-negative parts: a constant, what each block costs whatever its size (launches of kernels), what
each image costs (input), operations on every value of the residual stream, counted FLOPs of attention, MLPs and everything
else, and what the optimizer spends on each parameter. The coefficients are a non-negative least-squares fit of relative errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.optimize import nnls

from explorer.elastic.step_cost import StepSize
from explorer.spec.step_times import StepTimeModel

MIN_ROWS = 8
"""Fewer measured rows give no model: it has eight coefficients, most of which a search space's rates do not move."""


@dataclass(frozen=True)
class MeasuredStep:
    """A step that was measured, and its size."""

    size: StepSize
    batch_size: int
    seconds: float


def features(size: StepSize, batch_size: int) -> dict[str, float]:
    """What a step's time is made of, by name; see the module."""
    return {
        "step": 1.0,
        "blocks": size.depth,
        "images": float(batch_size),
        "residual_values": batch_size * size.depth * size.tokens,
        "attention_flops": float(batch_size * size.attention_flops),
        "mlp_flops": float(batch_size * size.mlp_flops),
        "other_flops": float(batch_size * size.other_flops),
        "parameters": float(size.parameters),
    }


def predicted_seconds(model: StepTimeModel, size: StepSize, batch_size: int) -> float:
    """Seconds of a step by the model."""
    return sum(model.coefficients[name] * value for name, value in features(size, batch_size).items())


def fitted_model(steps: Sequence[MeasuredStep]) -> StepTimeModel | None:
    """Fit the model, and predict each row from all others (leave-one-out).

    Returns:
        The model; `None` for fewer than `MIN_ROWS` rows.
    """
    if len(steps) < MIN_ROWS:
        return None
    names = list(features(steps[0].size, 1))
    values = np.array([list(features(step.size, step.batch_size).values()) for step in steps])
    seconds = np.array([step.seconds for step in steps])
    errors = []
    for row in range(len(steps)):
        others = np.arange(len(steps)) != row
        coefficients = _fit(values[others], seconds[others])
        errors.append(abs(float(values[row] @ coefficients) / float(seconds[row]) - 1))
    fitted = dict(zip(names, map(float, _fit(values, seconds)), strict=True))
    return StepTimeModel(coefficients=fitted, held_out_median=median(errors), held_out_largest=max(errors))


def _fit(values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Non-negative coefficients with the least squared relative errors."""
    scale = np.abs(values).max(axis=0)
    scale[scale == 0] = 1.0
    coefficients, _ = nnls(values / scale / seconds[:, None], np.ones(len(seconds)))
    result: np.ndarray = coefficients / scale
    return result
