"""What a ledger holds: the header of a sweep, and one record per trial."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from explorer.ledger.correct_images import CorrectImages
from explorer.spec.base import Frozen
from explorer.spec.budget import BudgetField, Currency
from explorer.spec.inventory import Inventory
from explorer.spec.lr_schedule import Decay
from explorer.spec.metric import ACCURACY, MetricSpec, OfMetric, SecondMetric
from explorer.spec.model_input import ModelInput
from explorer.spec.optimizer_choice import OptimizerChoice
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule
from explorer.spec.search_space import SearchSpace
from explorer.spec.time_spent import StageTime, TimeSpent
from explorer.spec.trial_counts import Kind

Phase = Literal["search", "repeat"]
FromProxy = Literal["promoted", "control"]
"""Why a schedule of a proxy is tried on the next task: it is one of the best there, or one that the proxy would not choose."""
Failure = Literal["diverged", "memory", "error", "place", "lost", "preempted"]
"""Kinds of failures: the loss diverged; memory ran out; the training raised an error; the host lacks something that other
hosts may have (data, storage, device, package); the worker or its node was lost; the node was about to be taken away, and the
training stopped to resume elsewhere."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number of seconds, not negative."""
PositiveAmount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number of seconds above 0."""
Count = Annotated[int, Field(ge=0)]
"""A number of steps, FLOPs or bytes, not negative."""


class OtherTrial(Frozen):
    """A trial of another sweep."""

    sweep: str
    """Name of the sweep, or its folder or URI as it was given in `search.from`."""
    trial: str
    """Id of the trial there."""

    def __str__(self) -> str:
        return f"{self.trial} of {self.sweep}"


class Trial(Frozen):
    """What is to be trained."""

    id: str
    phase: Phase
    kind: Kind
    """`staged`, or `baseline` for the full model throughout."""
    budget: BudgetField
    schedule: Schedule
    learning_rate: float
    batch_size: int
    seed: int
    staging: dict[str, str] = {}
    """Searched settings of `staging`; all others are those of the search space."""
    lr_schedule: Decay | None = None
    """Kind of the learning-rate schedule; `None` for that of the search space."""
    optimizer: OptimizerChoice | None = None
    """Optimizer with its weight decay; `None` for that of the search space."""
    known_schedule: str | None = None
    """Name or file of the schedule, for a trial of `search.first`."""
    parameters: dict[str, int | float | str] = {}
    """Variables of the search, from which its study is rebuilt; empty for repeats, and for known schedules that the search
    could not propose."""
    repeat_of: str | None = None
    """In phase `repeat`, id of the search trial that is repeated with another seed."""
    proxy: int | None = None
    """Number of the proxy that is trained, from 1: its budget is a share of the proxy's own full training. `None` for the
    target, the sweep's own task."""
    from_proxy: FromProxy | None = None
    """Why the schedule was taken from the proxy before this task; `None` if it was not."""
    from_sweep: OtherTrial | None = None
    """The trial of an earlier sweep whose schedule this is, for a warm start of `search.from`; `None` otherwise."""

    @property
    def is_outside_the_space(self) -> bool:
        """True for a search trial of a known schedule that the variables of the search cannot stand for."""
        return self.phase == "search" and self.known_schedule is not None and not self.parameters


class StageOutcome(Frozen):
    """Result of one stage of a trial."""

    rates: Rates
    """Realised rates."""
    steps: Count
    step_flops: Count
    """Cost per step."""
    flops: Count
    """Cost of all steps."""
    seconds: Amount
    """Training time."""
    mean_loss: float
    """Mean training loss."""
    batch_factor: float = 1.0
    """Images per step over the batch size of the trial."""
    planned_seconds: Amount | None = None
    """Device-seconds of all steps by the sweep's table of step times; `None` without one."""


class Outcome(OfMetric):
    """Results of a completed trial."""

    metric: MetricSpec = ACCURACY
    """What `validation` and `test` are values of, and by which the trial was compared. Accuracy is not written."""
    validation: FiniteFloat
    """Value of the metric on validation images; of accuracy, a fraction in [0, 1]."""
    test: FiniteFloat
    """Value of the metric on test images."""
    test_correct: CorrectImages | None = None
    """Which test images were classified correctly, from which two trainings are compared image by image; `None` if the metric
    is not accuracy, or it was not recorded."""
    also: SecondMetric | None = None
    """A second metric; `None` if none was measured. It is not written then."""
    planned_flops: Annotated[int, Field(gt=0)]
    """Cost of the trial's plan."""
    executed_flops: Count
    """Cost that was executed for this trial: without segments from the stage store, and 0 for a shared training."""
    full_flops: Annotated[int, Field(gt=0)]
    """Cost of full training of the sweep's task, also for a trial of a proxy."""
    steps: Count
    processes: Annotated[int, Field(ge=1)] = 1
    """Number of processes that trained together, each on a device of its own. Measured times are those of one of them."""
    train_seconds: Amount
    """Training time of the whole plan. Segments from the stage store count as measured when they were trained."""
    executed_seconds: Amount | None = None
    """Time spent on this trial, reading and writing states included; 0 for a shared training. `None` if not recorded."""
    evaluation_seconds: Amount
    peak_memory: Count | None = None
    """Peak GPU memory of training in bytes; `None` on the CPU."""
    stages: tuple[StageOutcome, ...]
    losses: tuple[float, ...] = ()
    """Mean training loss of each segment, in order: the learning curve. Empty if not recorded."""
    segment_ends: tuple[float, ...] = ()
    """Budget time at the end of each segment, in (0, 1]."""
    time: TimeSpent | None = None
    """Where the time went; its training time is `train_seconds`. `None` if not recorded."""
    stage_times: tuple[StageTime, ...] = ()
    """Planned and realised time of the steps of each stage. Empty if not recorded."""
    skipped_updates: Count = 0
    """Number of steps that changed nothing, because their gradients were not finite in fp16."""
    compiled_graphs: Count | None = None
    """Number of graphs that `torch.compile` made for this trial, 0 if those of earlier trials served; `None` if the recipe does
    not compile, or nothing can be compiled on its machine."""
    graph_breaks: Count | None = None
    """Number of places where Python interrupted them."""
    currency: Currency = "flops"
    """Currency of the sweep, which `planned_cost` and `executed_cost` are in."""
    planned_seconds: PositiveAmount | None = None
    """Cost of the trial's plan in device-seconds, by the sweep's table of step times; `None` without one."""
    charged_seconds: Amount | None = None
    """The part of `planned_seconds` that was executed for this trial: without segments from the stage store, and 0 for a
    shared training. What was measured is in `executed_seconds`."""
    full_seconds: PositiveAmount | None = None
    """Cost of full training in device-seconds, by the same table; `None` without one."""

    @field_validator("validation", "test")
    @classmethod
    def _is_within_bounds(cls, value: float, info: ValidationInfo) -> float:
        if "metric" in info.data:
            info.data["metric"].check(value)
        return value

    @property
    def validation_score(self) -> float:
        """The value on validation images as a score, of which the higher one is better."""
        return self.metric.score(self.validation)

    @property
    def test_score(self) -> float:
        """The value on test images as a score."""
        return self.metric.score(self.test)

    @model_validator(mode="after")
    def _has_seconds(self) -> Outcome:
        if self.currency == "device_seconds" and None in (self.planned_seconds, self.charged_seconds, self.full_seconds):
            raise ValueError("planned_seconds, charged_seconds and full_seconds are required in a sweep in device-seconds")
        return self

    @property
    def planned_cost(self) -> float:
        """Cost of the trial's plan as a fraction of full training, in the currency of the sweep."""
        return self._fraction(self.planned_flops, self.planned_seconds)

    @property
    def executed_cost(self) -> float:
        """Cost that was executed for this trial as a fraction of full training, in the currency of the sweep."""
        return self._fraction(self.executed_flops, self.charged_seconds)

    def stage_costs(self) -> tuple[float, ...]:
        """Planned cost of each stage as a fraction of full training, in the currency of the sweep."""
        return tuple(self._fraction(stage.flops, stage.planned_seconds) for stage in self.stages)

    def _fraction(self, flops: int, seconds: float | None) -> float:
        if self.currency == "flops":
            return flops / self.full_flops
        return (seconds or 0.0) / (self.full_seconds or 1.0)


class Record(Frozen):
    """A trial and how it ended."""

    trial: Trial
    status: Literal["completed", "failed"]
    reason: str | None = None
    """Why a trial failed, in one line."""
    failure: Failure | None = None
    """What kind of failure it was; `None` for a completed trial."""
    outcome: Outcome | None = None
    started: float
    """Seconds since the epoch."""
    finished: float
    """Seconds since the epoch, not before `started`."""
    worker: str
    """Host and process that trained it."""
    device: str
    """Name of the device that trained it."""
    plan: str = ""
    """Digest of the compiled plan. Empty if the worker was lost."""
    versions: dict[str, str] = {}
    """Versions of the packages that the result depends on, as installed on the worker."""
    shared_with: str | None = None
    """Id of the trial whose training this record shares: the trial of another kind that was the same training and was trained
    in this one's place. `None` for a trial that was trained itself."""
    reused_from: OtherTrial | None = None
    """The trial of another sweep on the same storage that was the same training, and whose result this record has. `None` for
    a training of this sweep."""

    @property
    def was_trained(self) -> bool:
        """Whether this trial was trained itself: its result is not that of another trial, here or in another sweep."""
        return self.shared_with is None and self.reused_from is None

    @property
    def diverged(self) -> bool:
        """Whether the loss diverged: the same training would diverge again."""
        return self.failure == "diverged" or (self.failure is None and (self.reason or "").startswith("diverged:"))

    @property
    def describes_training(self) -> bool:
        """Whether the record says how the training ends, and not only what happened to its worker or where it ran."""
        return bool(self.plan) and self.failure not in ("place", "lost", "preempted")

    @field_validator("finished")
    @classmethod
    def _not_before_started(cls, finished: float, info: ValidationInfo) -> float:
        if not finished >= info.data.get("started", finished):
            raise ValueError("must not be before started")
        return finished


def of_target(records: Iterable[Record]) -> list[Record]:
    """The records of a sweep's own task: without those of its proxies, which say nothing about its results."""
    return [record for record in records if record.trial.proxy is None]


class SweepHeader(Frozen):
    """Description of a sweep: written when it starts, never changed."""

    name: str
    space: SearchSpace
    created: float
    """Seconds since the epoch."""
    versions: dict[str, str]
    """Versions of the packages that a result depends on."""
    hardware: str
    """Hardware of the driver's machine."""
    git_commit: str | None = None
    inventory: Inventory | None = None
    """What the sweep was trained on. `None` if it was not recorded."""
    augmentation: str = ""
    """Augmentation of training images as it is applied, in words. Empty if it was not recorded."""
    model_parameters: int | None = None
    """Number of parameters of the full model. `None` if it was not recorded."""
    model_input: ModelInput | None = None
    """What its models were given, and what their outputs mean. `None` if it was not recorded."""
    metric: MetricSpec = ACCURACY
    """What its schedules are compared by. Accuracy is not written."""

    @model_serializer(mode="wrap")
    def _without_default_metric(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name != "metric" or self.metric != ACCURACY}
