"""What a ledger holds: the header of a sweep, and one record per trial."""

from __future__ import annotations

from typing import Literal

from explorer.spec.base import Frozen
from explorer.spec.budget import BudgetField
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import Kind, SearchSpace

Phase = Literal["search", "repeat"]


class Trial(Frozen):
    """What a trial is asked to do."""

    id: str
    phase: Phase
    kind: Kind
    """staged, or baseline: the full model throughout."""
    budget: BudgetField
    schedule: Schedule
    learning_rate: float
    batch_size: int
    seed: int
    staging: dict[str, str] = {}
    """Settings of the task's `staging` that were searched; the others are the space's."""
    parameters: dict[str, int | float | str] = {}
    """The search's own variables, from which a study is rebuilt."""
    repeat_of: str | None = None
    """For phase repeat: id of the search trial that is repeated with another seed."""


class StageOutcome(Frozen):
    """What one stage of a trial was."""

    rates: Rates
    """Realised rates."""
    steps: int
    step_flops: int
    flops: int
    seconds: float
    mean_loss: float


class Outcome(Frozen):
    """What a completed trial measured."""

    validation_accuracy: float
    test_accuracy: float
    planned_flops: int
    """Cost of the trial's plan."""
    executed_flops: int
    """Cost newly executed for it: without what a stage store had."""
    full_flops: int
    """Cost of full training of the same task."""
    steps: int
    train_seconds: float
    """Time that training takes; of what a stage store had, as measured where it was trained."""
    executed_seconds: float | None = None
    """Time that was spent on it here, reading and writing states included; none in ledgers of older releases."""
    evaluation_seconds: float
    peak_memory: int | None = None
    """Bytes of GPU memory that training held at its peak; none on the CPU."""
    stages: tuple[StageOutcome, ...]
    losses: tuple[float, ...] = ()
    """Mean training loss of each segment, in order: the learning curve."""
    segment_ends: tuple[float, ...] = ()
    """Budget time at the end of each segment, in (0, 1]."""


class Record(Frozen):
    """A trial and how it ended."""

    trial: Trial
    status: Literal["completed", "failed"]
    reason: str | None = None
    """For failed: why, in one line."""
    outcome: Outcome | None = None
    started: float
    finished: float
    """Seconds since the epoch."""
    worker: str
    """Host and process that ran it."""
    device: str
    plan: str = ""
    """Digest of the compiled plan."""
    shared_with: str | None = None
    """Id of the trial of the other kind that is the same training; it alone is charged for the training."""


class SweepHeader(Frozen):
    """What a sweep is: written when it starts, never changed."""

    name: str
    space: SearchSpace
    created: float
    versions: dict[str, str]
    hardware: str
    git_commit: str | None = None
