"""Where a schedule comes from, and what was measured with it."""

from __future__ import annotations

from pydantic import field_validator

from explorer.spec.budget import BudgetField, Currency
from explorer.spec.lr_schedule import Decay
from explorer.spec.metric import ACCURACY, MetricSpec, OfMetric
from explorer.spec.model_input import ModelInput
from explorer.spec.optimizer_choice import OptimizerChoice
from explorer.spec.step_times import StepTimeTable
from explorer.spec.task import TaskSpec

MAX_REACH = 10.0
"""Largest cost that is predicted, over the largest trained one: as far as coverage was measured."""
MIN_BUDGETS = 2
"""Trained budgets that a prediction needs."""


class PredictedAccuracy(OfMetric):
    """What was predicted for a budget that the sweep did not train."""

    budget: BudgetField
    """The budget that the prediction is for."""
    test: float
    """Predicted test accuracy, in [0, 1]: nothing is predicted of other metrics."""
    interval: tuple[float, float]
    """Interval that contains the mean test accuracy of as many runs as the sweep repeats, with a probability of 95 %."""
    run_interval: tuple[float, float]
    """The same for a single run."""
    trained_budgets: int
    """Number of trained budgets that the prediction was made from."""


class Provenance(OfMetric):
    """Where a schedule comes from, and what was measured with it."""

    sweep: str
    """Name of the sweep."""
    trial: str
    """Id of the trial that trained the schedule."""
    budget: BudgetField
    """Budget of that trial."""
    currency: Currency = "flops"
    """Currency of the sweep, in which a budget that is a share of full training is counted."""
    trained: str | None = None
    """`Schedule.digest` of what was trained; `None` in files of earlier releases."""
    price: float | None = None
    """Price of a device-hour in the sweep, of a budget in money; `None` for other budgets."""
    step_times: StepTimeTable | None = None
    """Step times by which the trial was planned, of a sweep in device-seconds; `None` otherwise."""
    model: str
    """Name of the model."""
    seed: int
    """Seed of the run whose results are given; on the CPU, training again with it gives the same results."""
    learning_rate: float
    """Peak learning rate of the trial."""
    batch_size: int
    """Batch size of the trial."""
    staging: dict[str, str] = {}
    """Settings of `staging` that the sweep chose."""
    lr_schedule: Decay | None = None
    """Kind of the learning-rate schedule that the sweep chose; `None` if it did not compare any."""
    optimizer: OptimizerChoice | None = None
    """Optimizer that the sweep chose; `None` if it did not compare any."""
    metric: MetricSpec = ACCURACY
    """The metric that was measured. Accuracy is not written."""
    validation: float
    """Value of the metric on validation images in that run; of accuracy, a fraction in [0, 1]."""
    test: float | None = None
    """Value on test images in that run."""
    mean_validation: float | None = None
    """Mean value on validation images over all seeds."""
    mean_test: float | None = None
    """Mean value on test images over all seeds."""
    seeds: int = 1
    """Number of seeds behind the means."""
    expected_test: tuple[float, float] | None = None
    """Interval that contains the value on test images of another run with a probability of 95 %; `None` if it is not known:
    for a single seed, and for seeds that agree exactly in a metric that is no fraction of the images."""
    prediction: PredictedAccuracy | None = None
    """Prediction for another budget than that of the trial, for which the schedule was chosen; `None` if there is none."""
    task: TaskSpec | None = None
    """The task as in the search space; `None` if the task of the file could not be read."""
    model_input: ModelInput | None = None
    """Names of the classes, size and preprocessing of the images; `None` if the sweep did not record them."""
    listings: dict[str, str] = {}
    """Digest of the names, sizes and labels of the images, by split (`SplitInventory.listing`); empty if the sweep did not
    record them."""
    versions: dict[str, str] = {}
    """Versions of the packages that the trial used."""

    @field_validator("expected_test")
    @classmethod
    def _unless_without_width(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        """Earlier releases wrote an interval of no width where seeds agree."""
        return None if interval and interval[0] == interval[1] else interval
