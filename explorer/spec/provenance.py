"""Where a schedule comes from and what was measured with it."""

from __future__ import annotations

from explorer.spec.base import Frozen
from explorer.spec.task import TaskSpec


class Provenance(Frozen):
    """Where a schedule comes from and what was measured with it."""

    sweep: str
    trial: str
    budget: str
    model: str
    seed: int
    """Seed of the run whose accuracies are given; training again with it repeats them on the CPU."""
    learning_rate: float
    batch_size: int
    staging: dict[str, str] = {}
    """Settings of `staging` that the sweep chose."""
    validation_accuracy: float
    test_accuracy: float | None = None
    """Accuracies of that one run, in [0, 1]."""
    mean_validation_accuracy: float | None = None
    mean_test_accuracy: float | None = None
    seeds: int = 1
    """Number of seeds behind the means."""
    expected_test_accuracy: tuple[float, float] | None = None
    """Where one more run's test accuracy will be found with a probability of 95 %; None: one seed says nothing about that."""
    task: TaskSpec | None = None
    """Model, data, recipe and staging of the measurement, as in the search space."""
    versions: dict[str, str] = {}
    """Package versions the measurement was made with."""
