"""Metrics against scikit-learn, in one process and divided among two; how they are described and compared."""

import math
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from explorer import InvalidInput
from explorer.spec.metric import ACCURACY, BUILT_IN, MetricSpec
from explorer.training.distributed import Processes
from explorer.training.evaluation import NotMeasuredError, check_value, evaluated, measured
from explorer.training.metrics import Measure
from explorer.training.task import Task
from tests.objective.sources import MEASURED, Means, model_for, worst_error
from tests.objective.test_losses import SOURCES, task_spec

CPU = torch.device("cpu")


def value_of(name, kind, outputs, targets, options=None):
    measure = Measure(name, options or {}, kind, outputs.shape[1], None, "objective.metric")
    running = measure.running(CPU)
    for part in torch.arange(len(outputs)).split(7):
        running.update(outputs[part], measure.targets(targets[part]))
    return running.compute(Processes())


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(60, 4, generator=generator), torch.arange(60) % 4
    labels[labels == 3] = torch.where(torch.arange(15) % 3 == 0, 3, 0)  # class 0 is frequent, class 3 rare
    return outputs + 1.2 * torch.eye(4)[labels], labels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", lambda labels, found, _: sklearn_metrics.accuracy_score(labels, found)),
        ("balanced_accuracy", lambda labels, found, _: sklearn_metrics.balanced_accuracy_score(labels, found)),
        ("f1", lambda labels, found, _: sklearn_metrics.f1_score(labels, found, average="macro")),
        ("auc", lambda labels, _, p: sklearn_metrics.roc_auc_score(labels, p, multi_class="ovr", average="macro")),
    ],
)
def test_metrics_of_classes_are_scikit_learns(scores, name, expected):
    outputs, labels = scores
    reference = expected(labels.numpy(), outputs.argmax(1).numpy(), outputs.softmax(1).numpy())
    assert value_of(name, "class", outputs, labels) == pytest.approx(reference, abs=1e-6)


def test_a_process_without_images_has_no_flags():
    running = Measure("accuracy", {}, "class", 3, None, "f").running(CPU)
    assert running.correct_images(Processes()).tolist() == []


def test_accuracy_is_an_exact_ratio(scores):
    outputs, labels = scores
    assert value_of("accuracy", "class", outputs, labels) == int((outputs.argmax(1) == labels).sum()) / 60


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean_average_precision", lambda y, p: sklearn_metrics.average_precision_score(y, p, average="macro")),
        ("auc", lambda y, p: sklearn_metrics.roc_auc_score(y, p, average="macro")),
        ("f1", lambda y, p: sklearn_metrics.f1_score(y, p > 0.5, average="macro")),
    ],
)
def test_metrics_of_several_labels_are_scikit_learns(scores, name, expected):
    outputs, _ = scores
    labels = (outputs + torch.randn(60, 4, generator=torch.Generator().manual_seed(3)) > 0.5).float()
    reference = expected(labels.numpy(), outputs.sigmoid().numpy())
    assert value_of(name, "labels", outputs, labels) == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r2", sklearn_metrics.r2_score),
        ("mae", sklearn_metrics.mean_absolute_error),
        ("rmse", lambda y, p: sklearn_metrics.mean_squared_error(y, p) ** 0.5),
    ],
)
@pytest.mark.parametrize("values", [1, 4])
def test_metrics_of_values_are_scikit_learns(scores, name, expected, values):
    targets = scores[0][:, :values].contiguous()
    outputs = targets + torch.randn(60, values, generator=torch.Generator().manual_seed(3))
    assert value_of(name, "values", outputs, targets) == pytest.approx(expected(targets.numpy(), outputs.numpy()), abs=1e-5)


def test_a_function_of_ones_own_sees_the_whole_split(scores):
    outputs, targets = scores[0], torch.zeros(60, 4)
    expected = float(outputs.abs().max())
    assert value_of(f"{SOURCES}:worst_error", "values", outputs, targets) == pytest.approx(expected)
    options = {"power": 2}
    assert value_of(f"{SOURCES}:worst_error", "values", outputs, targets, options) == pytest.approx(expected**2)


def test_what_a_metric_of_ones_own_says_of_itself():
    described = Measure(f"{SOURCES}:worst_error", {}, "values", 2, None, "f").metric
    assert (described.label, described.direction, described.unit, described.low) == ("worst error", "minimize", "lm", 0)
    assert described.text(1.5) == "1.500 lm"
    declared = Measure(f"{SOURCES}:DeclaredError", {}, "values", 2, "years", "f").metric
    assert (declared.direction, declared.unit, declared.label) == ("minimize", "years", "DeclaredError")


@pytest.mark.parametrize(
    ("metric", "also", "units"),
    [
        ("mae", None, ["years"]),
        ("mae", "rmse", ["years", "years"]),
        ("r2", "mae", ["", "years"]),
        ("mae", "r2", ["years", ""]),
        (f"{SOURCES}:worst_error", "mae", ["years", "years"]),
        ("mae", f"{SOURCES}:worst_error", ["years", "lm"]),
    ],
)
def test_the_unit_of_the_targets_is_that_of_mae_and_rmse_in_either_place(metric, also, units):
    task = Task(task_spec(loss="huber", metric=metric, also=also, unit="years"))
    assert [measure.metric.unit for measure in task.objective.measures] == units


def test_a_class_that_refuses_its_options_is_named():
    measure = Measure(f"{SOURCES}:DeclaredError", {"nonsense": 1}, "values", 2, None, "objective.metric")
    with pytest.raises(InvalidInput, match="cannot be made with these options"):
        measure.check(torch.zeros(4, 2), torch.zeros(4, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.1, -0.1])
def test_what_is_no_value_is_a_failure_with_its_reason(value):
    with pytest.raises(NotMeasuredError, match=r"accuracy is .* on the test images"):
        check_value(ACCURACY, value, "test")


def test_values_and_scores():
    mae, accuracy = BUILT_IN["mae"], ACCURACY
    assert (mae.score(2.0), mae.value(-2.0), accuracy.score(0.5)) == (-2.0, 2.0, 0.5)
    assert mae.score_bounds == (-math.inf, -0.0)
    assert accuracy.score_bounds == (0.0, 1.0)
    assert mae.interval_text(-3.0, -1.0) == "1.000 to 3.000"
    assert mae.gain_text(0.25) == "+0.250"
    assert mae.model_copy(update={"unit": "years"}).gain_text(-0.25) == "-0.250 years"
    assert accuracy.gain_text(0.0123) == "+1.2 points"
    assert accuracy.text(0.97134, 1) == f"{0.97134:.2%}"


@pytest.mark.parametrize("label", ["<script>", "a\nb", 'a"b', "x" * 61, ""])
def test_labels_from_files_are_plain_text(label):
    with pytest.raises(ValueError, match="label"):
        MetricSpec(name="m", label=label, direction="maximize")


def test_evaluation_measures_both_metrics_of_a_task():
    task = Task(task_spec(loss="huber", metric="r2", also=f"{SOURCES}:worst_error"))
    r2, worst = evaluated(Means(), task, "test", CPU).values
    images, targets = next(task.data.evaluation_batches("test", CPU))
    predicted = Means()(images)
    assert r2 == pytest.approx(sklearn_metrics.r2_score(targets.numpy(), predicted.numpy()), abs=1e-6)
    assert worst == pytest.approx(float(worst_error(predicted, targets)))
    assert 0.9 < r2 < 1


TWO_PROCESSES = """
import pickle, sys
import torch
from torch import distributed
from explorer.training.distributed import Processes
from explorer.training.evaluation import measured
from explorer.training.metrics import Measure
from tests.objective.sources import MEASURED, model_for

rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
values = {}
for name, source in MEASURED:
    data = source(None)
    batches = data.evaluation_batches("test", torch.device("cpu"), rank, 2)
    measure = Measure(name, {}, data.target_kind, data.classes, None, "f")
    values[name] = measured(model_for(data), batches, [measure], torch.device("cpu"), None, Processes(rank, 2)).values[0]
failing = [Measure("tests.objective.sources:FailsInOneProcess", {}, "values", 2, None, "f"), Measure("mae", {}, "values", 2, None, "f")]
data = MEASURED[0][1](None)
batches = data.evaluation_batches("test", torch.device("cpu"), rank, 2)
(_, mae), values["failures"], _ = measured(model_for(data), batches, failing, torch.device("cpu"), None, Processes(rank, 2))
values["mae beside it"] = mae
correct = Measure("accuracy", {}, "class", 3, None, "f").running(torch.device("cpu"))
images = torch.arange(rank, 7, 2)  # of seven, which two processes cannot divide equally
correct.update(torch.eye(3)[images % 3], torch.tensor([0, 1, 0, 0, 0, 2, 0])[images])
values["correct"] = correct.correct_images(Processes(rank, 2)).tolist()
with open(f"{out}-{rank}", "wb") as file:
    pickle.dump(values, file)
distributed.destroy_process_group()
"""


@pytest.mark.nightly
def test_two_processes_measure_what_one_does(tmp_path):
    """State that is summed (MAE, F1), and whole splits (R2, a function, average precision)."""
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent(TWO_PROCESSES))
    arguments = [str(tmp_path / "rendezvous"), str(tmp_path / "values")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    started = [subprocess.Popen([sys.executable, str(script), str(rank), *arguments], env=environment) for rank in (0, 1)]
    assert [process.wait(900) for process in started] == [0, 0]
    one, other = (pickle.loads((tmp_path / f"values-{rank}").read_bytes()) for rank in (0, 1))
    assert one == other
    assert one["correct"] == [True, True, False, True, False, True, True]  # outputs 0, 1, 2, 0, 1, 2, 0
    assert one["failures"] == ("RuntimeError: of this process", None)  # in both
    assert one["mae beside it"] == one["mae"]
    for name, source in MEASURED:
        data = source(None)
        measure = Measure(name, {}, data.target_kind, data.classes, None, "f")
        alone = measured(model_for(data), data.evaluation_batches("test", CPU), [measure], CPU, None).values[0]
        assert np.isfinite(alone)
        assert one[name] == pytest.approx(alone, abs=1e-6)
