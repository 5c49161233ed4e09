"""Metrics by name: top-1 accuracy, those of `built_in_metrics`, and `package.module:name`.

To add a metric outside this package, name a `torchmetrics.Metric` class, or a function `metric(outputs, targets, **options)` of
all outputs and targets of a split that returns a number. Both get the outputs as they are (logits), which torchmetrics takes
for probabilities in batches whose outputs are all in [0, 1]. The class or function says how it is read:

- `direction`: `maximize` or `minimize`; for a class, torchmetrics' own `higher_is_better` serves as well. Required.
- `label`, `unit`, `low`, `high`, `decimals`: as in `MetricSpec`. By default the object's name, and none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.data.source import TargetKind
from explorer.errors import InvalidInput
from explorer.references import is_reference
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.objective import described_metric
from explorer.training.distributed import Processes
from explorer.training.losses import DESCRIBED

if TYPE_CHECKING:
    import torchmetrics

# Shapes: B batch, K classes, labels or values

WITH_INTEGERS = ("labels",)
"""Kinds of targets that torchmetrics expects as integers."""


class RunningMetric(Protocol):
    """A metric while it is measured, in one of the processes that divide a split."""

    def update(self, outputs_BK: Tensor, targets: Tensor) -> None:
        """Add a batch: float32 outputs, and targets as `TargetKind` says."""

    def compute(self, processes: Processes) -> float:
        """The value over the batches of all processes. Every process has to call this."""


class CountedAccuracy:
    """Top-1 accuracy as a ratio of whole numbers, which float32 would round."""

    def __init__(self, device: torch.device) -> None:
        self.counted = torch.zeros(2, dtype=torch.int64, device=device)
        """Number of images that are classified correctly, and of all images."""
        self._correct: list[Tensor] = []

    def update(self, outputs_BK: Tensor, targets_B: Tensor) -> None:
        """See `RunningMetric`."""
        correct_B = outputs_BK.argmax(dim=1) == targets_B
        self._correct.append(correct_B)
        self.counted[0] += correct_B.sum()
        self.counted[1] += len(targets_B)

    def compute(self, processes: Processes) -> float:
        """See `RunningMetric`."""
        correct, seen = processes.all_reduce(self.counted.clone()).tolist()
        return float(correct / seen)

    def correct_images(self, processes: Processes) -> NDArray[np.bool_]:
        """Whether each image of the split was classified correctly, (N,), in the order of the split.

        Every process has to call this. Process r of n has seen the images r, r + n, r + 2n, ...; where a data source divides
        them in another way, their order is another one, but the same for every training with as many processes.
        """
        here = [correct_B.cpu().numpy() for correct_B in self._correct]
        parts = processes.all_gather(np.concatenate([np.empty(0, bool), *here]))  # there may be more processes than images
        correct_N = np.empty(sum(map(len, parts)), bool)
        if any(len(correct_N[rank :: len(parts)]) != len(part) for rank, part in enumerate(parts)):
            return np.concatenate(parts)
        for rank, part in enumerate(parts):
            correct_N[rank :: len(parts)] = part
        return correct_N


class Measure:
    """A metric of an objective: its description, and new running metrics of it.

    Args:
        name: of the metric: built-in, or `package.module:name`.
        options: keyword arguments of a metric of the user's.
        kind: kind of targets.
        classes: K.
        unit: unit of the targets, for `mae` and `rmse`, or of the values of a metric of the user's; `None` for its own.
        field: the setting that names it, for messages.

    Raises:
        InvalidInput: when there is no such metric for these targets, or it does not say its direction.
    """

    def __init__(
        self, name: str, options: dict[str, Any], kind: TargetKind, classes: int, unit: str | None, field: str
    ) -> None:
        self._kind, self._field = kind, field
        self._make: Callable[[], torchmetrics.Metric] | None = None
        if name == ACCURACY.name and kind == "class":
            self.metric = ACCURACY
            return
        # Its import takes seconds where transformers is installed, which trainings that measure accuracy do not wait for.
        from explorer.training.built_in_metrics import FACTORIES
        from explorer.training.torch_metrics import own_metric

        if is_reference(name):
            self.metric, self._make = own_metric(name, options, unit, field)
        elif factory := FACTORIES.get((name, kind)):
            self.metric, self._make = described_metric(name, unit), partial(factory, classes)
        else:
            suitable = [other for other, of_kind in FACTORIES if of_kind == kind]
            suitable = [ACCURACY.name, *suitable] if kind == "class" else suitable
            raise InvalidInput(field, name, f"cannot be measured with {DESCRIBED[kind]}: use one of {', '.join(suitable)}")

    def running(self, device: torch.device) -> RunningMetric:
        """A new metric that has seen nothing.

        Raises:
            InvalidInput: when a metric of the user's cannot be made.
        """
        if self._make is None:
            return CountedAccuracy(device)
        from explorer.training.torch_metrics import TorchMetric

        try:
            return TorchMetric(self._make(), device)
        except Exception as error:  # code of the user's may fail in any way
            reason = f"cannot be made with these options: {type(error).__name__}: {error}"
            raise InvalidInput(self._field, self.metric.name, reason) from error

    def check(self, outputs_BK: Tensor, targets: Tensor) -> None:
        """Check that a tiny batch gives a finite number.

        Raises:
            InvalidInput: when it does not.
        """
        running = self.running(outputs_BK.device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a tiny batch may lack what a whole split has
                running.update(outputs_BK, self.targets(targets))
                value = running.compute(Processes())
        except Exception as error:  # code of the user's may fail in any way
            reason = f"fails with outputs {tuple(outputs_BK.shape)} and targets {tuple(targets.shape)} of {targets.dtype}"
            raise InvalidInput(self._field, self.metric.name, f"{reason}: {type(error).__name__}: {error}") from error
        if problem := not_a_value(self.metric, value):
            raise InvalidInput(self._field, self.metric.name, f"{problem} for a batch of {len(outputs_BK)} images")

    def targets(self, targets: Tensor) -> Tensor:
        """Targets as the metric expects them."""
        return targets.long() if self._kind in WITH_INTEGERS and self._make is not None else targets


def not_a_value(metric: MetricSpec, value: float) -> str | None:
    """Why a number cannot be a value of a metric, as a clause; `None` if it can."""
    if metric.allows(value):
        return None
    bounds = f", outside of its bounds {metric.low} and {metric.high}" if math.isfinite(value) else ""
    return f"{metric.label} is {value:g}{bounds}"
