"""The example of a loss and a metric outside of the package: values by hand, and a task that uses both."""

import pytest
import torch

from explorer.training.task import Task
from tests.docs.blocks import ROOT
from tests.objective.test_losses import task_spec


@pytest.fixture
def task(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "extending"))
    objective = {"loss": "objective:focal_loss", "loss_options": {"gamma": 1.5}, "metric": "objective:worst_class_error"}
    return Task(task_spec("digits", **objective, also="accuracy"))


def test_it_passes_the_checks_before_a_sweep(task):
    task.check()
    metric = task.objective.metric
    assert (metric.label, metric.direction, metric.text(0.25)) == ("error of the worst class", "minimize", "25.0%")
    assert task.objective.also.label == "accuracy"


def test_the_loss_is_cross_entropy_weighted_by_what_is_missing(task):
    outputs, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0])
    p = torch.softmax(outputs, 1)[:, 0]
    expected = ((1 - p) ** 1.5 * -p.log()).mean()
    assert task.objective.training_loss(outputs, labels, torch.zeros(2, 1, 8, 8)) == pytest.approx(float(expected))


def test_the_metric_is_that_of_the_worst_class(task):
    running = task.objective.measures[0].running(torch.device("cpu"))
    outputs = torch.eye(10)[[0, 0, 1, 2, 2, 3]]
    running.update(outputs[:3], torch.tensor([0, 0, 1]))
    running.update(outputs[3:], torch.tensor([2, 2, 2]))  # one of three is wrong
    from explorer.training.distributed import Processes

    assert running.compute(Processes()) == pytest.approx(1 / 3)
