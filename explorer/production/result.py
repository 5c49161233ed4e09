"""The result of a production run: `result.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from explorer.errors import validated
from explorer.files import write_file
from explorer.spec.base import read_mapping
from explorer.spec.budget import Currency
from explorer.spec.inventory import Inventory
from explorer.spec.metric import ACCURACY, MetricSpec, OfMetric, SecondMetric
from explorer.spec.model_input import ModelInput
from explorer.spec.time_spent import StageTime, TimeSpent

RESULT = "result.json"


class RunResult(OfMetric):
    """What was trained, at which cost, and how good it became."""

    timm_create_model: dict[str, Any]
    """Keyword arguments with which `timm.create_model` builds the model."""
    model_input: ModelInput | None = None
    """Names of the classes in the order of the model's outputs, size and preprocessing of the images. `None` in results of
    earlier releases."""
    seed: int
    budget: str
    currency: Currency = "flops"
    """Currency of a budget that is a share of full training."""
    planned_flops: int
    realised_flops: int
    planned_seconds: float | None
    """Planned device-seconds, of all devices together; `None` if not calibrated."""
    train_seconds: float
    """Time of all steps on each device, with the input for them: what a budget in time pays for."""
    time: TimeSpent | None = None
    """Where the time went, on each device. `None` in results of earlier releases."""
    stage_times: tuple[StageTime, ...] = ()
    """Planned and realised time of the steps of each stage, on each device. Empty in results of earlier releases."""
    cost: float
    """Realised FLOPs as a fraction of full training."""
    steps: int
    """Optimizer steps."""
    skipped_updates: int = 0
    """Number of steps that changed nothing, because their gradients were not finite in fp16."""
    processes: int
    """Number of processes that trained together."""
    earlier_processes: tuple[int, ...] = ()
    """Numbers of processes before the run was resumed with another one: random numbers are then not those of an uninterrupted
    run."""
    metric: MetricSpec = ACCURACY
    """The metric of the objective. Accuracy is not written."""
    validation: float
    """Value of the metric on validation images; of accuracy, a fraction in [0, 1]."""
    test: float
    """Value of the metric on test images."""
    also: SecondMetric | None = None
    """A second metric; `None`, and not written, if none was measured."""
    inventory: Inventory | None = None
    """What the model was trained and evaluated on. `None` if it was not recorded."""

    def save(self, out: Path) -> None:
        """Write `result.json` into the run's folder."""
        write_file(out / RESULT, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def load(cls, out: Path) -> RunResult:
        """Read `result.json` from a run's folder.

        Raises:
            InvalidInput: when it is missing or damaged.
        """
        return validated(cls, read_mapping(out / RESULT), str(out / RESULT))
