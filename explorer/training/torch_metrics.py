"""Metrics with torchmetrics' interface, and those of a user's: classes of torchmetrics, or functions of a whole split."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from explorer.errors import InvalidInput, validated
from explorer.references import load_reference
from explorer.spec.metric import MetricSpec
from explorer.training.distributed import Processes

# Shapes: B batch, K classes, labels or values


class TorchMetric:
    """A metric of torchmetrics, which sums or gathers its state over the processes of torch's process group."""

    def __init__(self, metric: torchmetrics.Metric, device: torch.device) -> None:
        self._metric = metric.to(device)

    def update(self, outputs_BK: Tensor, targets: Tensor) -> None:
        """See `RunningMetric`."""
        self._metric.update(outputs_BK.float(), targets)

    def compute(self, processes: Processes) -> float:  # noqa: ARG002 (torchmetrics knows the processes)
        """See `RunningMetric`."""
        return float(self._metric.compute())


class OverWholeSplit(torchmetrics.Metric):
    """A function of all outputs and targets of a split."""

    full_state_update = False

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self._function = function
        self.outputs: list[Tensor]
        self.targets: list[Tensor]
        self.add_state("outputs", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, outputs_BK: Tensor, targets: Tensor) -> None:
        """Keep a batch."""
        self.outputs.append(outputs_BK)
        self.targets.append(targets)

    def compute(self) -> Any:
        """The function's value."""
        outputs, targets = (
            torch.cat(state) if isinstance(state, list) else state  # gathered states are tensors already
            for state in (self.outputs, self.targets)
        )
        return self._function(outputs, targets)


def own_metric(
    name: str, options: dict[str, Any], unit: str | None, field: str
) -> tuple[MetricSpec, Callable[[], torchmetrics.Metric]]:
    """The description of a metric of the user's, and what makes it.

    Raises:
        InvalidInput: when it cannot be imported, is no metric, or does not say its direction.
    """
    loaded = load_reference(name, field)
    is_class = isinstance(loaded, type)
    if not callable(loaded) or (is_class and not issubclass(loaded, torchmetrics.Metric)):
        raise InvalidInput(field, name, "must be a torchmetrics.Metric class, or a function of outputs and targets")
    direction = getattr(loaded, "direction", None)
    if direction is None and is_class and isinstance(higher := getattr(loaded, "higher_is_better", None), bool):
        direction = "maximize" if higher else "minimize"
    if direction is None:
        reason = f"does not say whether higher values are better: set {name.rpartition(':')[2]}.direction to 'maximize' or "
        raise InvalidInput(field, name, f"{reason}'minimize'")
    stated: dict[str, Any] = {
        each: getattr(loaded, each) for each in ("label", "unit", "low", "high", "decimals") if hasattr(loaded, each)
    }
    if unit is not None:
        stated["unit"] = unit
    content = {"name": name, "label": name.rpartition(":")[2].replace("_", " "), "direction": direction, **stated}
    metric = validated(MetricSpec, content, f"{field}: {name}")
    if is_class:
        return metric, partial(loaded, **options)
    return metric, partial(OverWholeSplit, partial(loaded, **options))
