"""What a metric is called, in which direction it is better, and how it is shown. Plain data: nothing is imported or measured.

The search, the frontier and their statistics compare *scores*, of which the higher one is better: the metric itself, or its
negative where lower values are better. `MetricSpec.score` and `MetricSpec.value` are the only two places that turn one into the
other; what people read and what files hold are values of the metric.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer, model_validator

from explorer.spec.base import Frozen, renamed

Direction = Literal["maximize", "minimize"]
PLAIN_TEXT = r"^[^<>&\"\x00-\x1f\x7f]*$"
"""Names may come from files that others wrote, and appear in pages: nothing in them may be markup."""
ROUNDING = 1e-6
"""How far a value that was computed in float32 may be outside of its bounds."""
POINTS = " points"
"""Unit of differences of percentages."""


class MetricSpec(Frozen):
    """A metric as ledgers, schedule files and results describe it."""

    name: str = Field(min_length=1, max_length=200, pattern=PLAIN_TEXT)
    """Name in the registry, or `package.module:name`."""
    label: str = Field(min_length=1, max_length=60, pattern=PLAIN_TEXT)
    """What people call it, within a sentence."""
    direction: Direction
    """Whether higher or lower values are better."""
    unit: str = Field("", max_length=30, pattern=PLAIN_TEXT)
    """Unit of its values. With `%`, values are fractions that are shown as percentages."""
    low: float | None = Field(None, allow_inf_nan=False)
    """Smallest possible value; `None` if there is none."""
    high: float | None = Field(None, allow_inf_nan=False)
    """Largest possible value; `None` if there is none."""
    decimals: int = Field(3, ge=0, le=9)
    """Decimals with which reports show it, percentages after multiplication by 100."""
    is_fraction_of_images: bool = False
    """Whether it is the fraction of the images for which something is true. Only then does the number of images alone say how
    exactly it was measured (binomial intervals)."""

    @model_validator(mode="after")
    def _check(self) -> MetricSpec:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low: {self.low} must be below high, {self.high}")
        return self

    def score(self, value: float) -> float:
        """The value as a score, of which the higher one is better."""
        return value if self.direction == "maximize" else -value

    def value(self, score: float) -> float:
        """The value that has a score."""
        return score if self.direction == "maximize" else -score

    def allows(self, value: float) -> bool:
        """Whether a number can be a value: finite, and within the bounds up to the rounding of float32."""
        low = -math.inf if self.low is None else self.low - ROUNDING
        high = math.inf if self.high is None else self.high + ROUNDING
        return math.isfinite(value) and low <= value <= high

    def check(self, value: float) -> None:
        """Check that a number can be a value.

        Raises:
            ValueError: when it cannot.
        """
        if not self.allows(value):
            raise ValueError(f"{value} is no {self.label}, which is between {self.low} and {self.high}")

    @property
    def score_bounds(self) -> tuple[float, float]:
        """Smallest and largest possible score; infinite where there is none."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return (low, high) if self.direction == "maximize" else (-high, -low)

    @property
    def is_percentage(self) -> bool:
        """Whether values are fractions that are shown as percentages."""
        return self.unit == "%"

    @property
    def better(self) -> str:
        """Which values are better: `higher` or `lower`."""
        return "higher" if self.direction == "maximize" else "lower"

    @property
    def unit_of_differences(self) -> str:
        """Unit of differences, for the title of a column: `points`, or that of the metric."""
        return POINTS.strip() if self.is_percentage else self.unit

    def values(self, scores: Any) -> Any:
        """The values that have scores: numpy arrays or columns of a table."""
        return scores if self.direction == "maximize" else -scores

    def text(self, value: float, more: int = 0) -> str:
        """A value with its unit.

        Args:
            value: of the metric.
            more: number of decimals to add.
        """
        decimals = self.decimals + more
        return f"{value:.{decimals}%}" if self.is_percentage else f"{value:.{decimals}f}{self._spaced_unit}"

    def score_text(self, score: float, more: int = 0) -> str:
        """The value that has a score, with its unit."""
        return self.text(self.value(score), more)

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """The values between two scores, the smaller one first."""
        first, second = sorted((self.value(low), self.value(high)))
        return first, second

    def interval_text(self, low: float, high: float, more: int = 0) -> str:
        """The values between two scores, the smaller one first: `81.2% to 95.0%`."""
        return " to ".join(self.text(value, more) for value in self.interval(low, high))

    def gain_text(self, gain: float, *, signed: bool = True) -> str:
        """A difference of scores with its unit; a gain is positive in whichever direction the metric is better."""
        return f"{self.gain_number(gain, signed=signed)}{POINTS if self.is_percentage else self._spaced_unit}"

    def gain_number(self, gain: float, *, signed: bool = True) -> str:
        """A difference of scores without its unit."""
        number = 100 * gain if self.is_percentage else gain
        return f"{number:{'+' if signed else ''}.{self.decimals}f}"

    @property
    def number_format(self) -> str:
        """d3's format of values in figures."""
        return f".{self.decimals}{'%' if self.is_percentage else 'f'}"

    def logged(self, validation: float, test: float, also: SecondMetric | None = None) -> dict[str, float]:
        """Values under the names that loggers show: `validation_accuracy`, `test_accuracy`, and those of a second metric."""
        values = {f"validation_{self.slug}": validation, f"test_{self.slug}": test}
        return values if also is None else {**values, **also.metric.logged(also.validation, also.test)}

    @property
    def slug(self) -> str:
        """The name without the module of one of the user's."""
        return self.name.rpartition(":")[2]

    @property
    def axis(self) -> dict[str, Any]:
        """Settings of plotly's axis: format of ticks, and the unit behind them."""
        if self.is_percentage:
            return {"tickformat": ".2~%"}
        return {"tickformat": "~g", "ticksuffix": self._spaced_unit}

    @property
    def _spaced_unit(self) -> str:
        return f" {self.unit}" if self.unit and not self.is_percentage else ""


class SecondMetric(Frozen):
    """A second metric with its values: recorded and shown, while nothing is chosen by it."""

    metric: MetricSpec
    validation: FiniteFloat
    """Its value on validation images."""
    test: FiniteFloat
    """Its value on test images."""

    @model_validator(mode="after")
    def _check(self) -> SecondMetric:
        for value in (self.validation, self.test):
            self.metric.check(value)
        return self


def _fraction(name: str, label: str, *, is_fraction_of_images: bool = False, low: float = 0.0) -> MetricSpec:
    return MetricSpec(
        name=name,
        label=label,
        direction="maximize",
        unit="%",
        low=low,
        high=1.0,
        decimals=1,
        is_fraction_of_images=is_fraction_of_images,
    )


ACCURACY = _fraction("accuracy", "accuracy", is_fraction_of_images=True)
"""Top-1 accuracy, the default."""
BUILT_IN: dict[str, MetricSpec] = {
    metric.name: metric
    for metric in (
        ACCURACY,
        _fraction("balanced_accuracy", "balanced accuracy"),
        _fraction("f1", "F1"),
        _fraction("auc", "AUC"),
        _fraction("mean_average_precision", "mean average precision"),
        MetricSpec(name="r2", label="R2", direction="maximize", high=1.0),
        MetricSpec(name="mae", label="mean absolute error", direction="minimize", low=0.0),
        MetricSpec(name="rmse", label="root mean squared error", direction="minimize", low=0.0),
    )
}
"""The metrics that need no code of the user's, by name."""
ACCURACY_NAMES = {
    "validation_accuracy": "validation",
    "test_accuracy": "test",
    "mean_validation_accuracy": "mean_validation",
    "mean_test_accuracy": "mean_test",
    "expected_test_accuracy": "expected_test",
}
"""Today's names of the fields of files of releases that knew no metric but accuracy."""


class OfMetric(Frozen):
    """What holds values of a metric. Accuracy is not written, nor a second metric that was not measured; the names in files of
    releases that knew no metric but accuracy are read.
    """

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_release(cls, data: Any) -> Any:
        return renamed(data, ACCURACY_NAMES)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        unwritten = {"metric": getattr(self, "metric", None) == ACCURACY, "also": getattr(self, "also", None) is None}
        return {name: value for name, value in content.items() if not unwritten.get(name)}
