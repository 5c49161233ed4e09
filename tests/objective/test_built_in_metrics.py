"""Built-in metrics where torchmetrics and scikit-learn differ, or batches would: against scikit-learn, numpy, and by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from explorer.training.distributed import Processes
from explorer.training.metrics import Measure

CPU = torch.device("cpu")


def value_of(name, kind, outputs, targets, batch=64):
    measure = Measure(name, {}, kind, outputs.shape[1], None, "objective.metric")
    running = measure.running(CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torchmetrics' own do not reach users
        for part in torch.arange(len(outputs)).split(batch):
            running.update(outputs[part], measure.targets(targets[part]))
        return running.compute(Processes())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def labelled():
    """Logits that are all in [0, 1], as those of a model after few steps, and labels that most images have."""
    labels = (torch.rand(300, 3, generator=generator()) < torch.tensor([0.6, 0.65, 0.72])).float()
    return 0.3 + 0.1 * torch.randn(300, 3, generator=generator(1)).clamp(-2, 2) + 0.1 * labels, labels


@pytest.fixture
def classified():
    logits, classes = torch.rand(90, 3, generator=generator()), torch.arange(90) % 3
    return (logits + 0.2 * torch.eye(3)[classes]) / 1.2, classes


OF_LABELS = {
    "f1": lambda y, logits: sklearn_metrics.f1_score(y, logits > 0, average="macro"),
    "auc": lambda y, logits: sklearn_metrics.roc_auc_score(y, logits),
    "mean_average_precision": lambda y, logits: sklearn_metrics.average_precision_score(y, logits),
}
OF_CLASSES = {
    "f1": lambda y, logits: sklearn_metrics.f1_score(y, logits.argmax(1), average="macro"),
    "auc": lambda y, logits: sklearn_metrics.roc_auc_score(y, logits.double().softmax(1), multi_class="ovr"),
    "balanced_accuracy": lambda y, logits: sklearn_metrics.balanced_accuracy_score(y, logits.argmax(1)),
}


@pytest.mark.parametrize("batch", [300, 7, 1])
@pytest.mark.parametrize("name", OF_LABELS)
def test_logits_between_0_and_1_are_no_probabilities_of_labels(labelled, name, batch):
    logits, labels = labelled
    assert all(0 < logit < 1 for logit in logits.flatten())
    assert value_of(name, "labels", logits, labels, batch) == pytest.approx(OF_LABELS[name](labels, logits), abs=1e-6)


@pytest.mark.parametrize("batch", [90, 7, 1])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_logits_between_0_and_1_are_no_probabilities_of_classes(classified, name, batch):
    logits, classes = classified
    assert all(0 <= logit <= 1 for logit in logits.flatten())
    assert value_of(name, "class", logits, classes, batch) == pytest.approx(OF_CLASSES[name](classes, logits), abs=1e-6)


@pytest.mark.parametrize("name", OF_LABELS)
def test_large_logits_of_labels_are_not_equal(labelled, name):
    """The sigmoid of 17 and more is 1 in float32."""
    logits, labels = 400 * labelled[0], labelled[1]
    assert value_of(name, "labels", logits, labels) == pytest.approx(OF_LABELS[name](labels, logits), abs=1e-6)


def test_large_logits_of_classes_are_not_equal(classified):
    """Of differences from 17 on, the softmax is 1 in float32."""
    logits, classes = 20 * classified[0], classified[1]
    logits[classes == 0] += torch.tensor([15.0, 0.0, 0.0])
    assert (logits.softmax(1)[:, 0] == 1).sum() > 5  # in float32
    assert value_of("auc", "class", logits, classes) == pytest.approx(OF_CLASSES["auc"](classes, logits), abs=1e-9)


def test_equal_scores_count_half_and_share_a_rank():
    """By hand: of 2 * 2 pairs, (3, 1) and (3, 2) are right, (2, 1) is right, (2, 2) is equal. Average precision: the first
    positive image is alone at rank 1, the second one is at rank 3 with a negative one: (1 + 2 / 3) / 2."""
    logits, labels = torch.tensor([[3.0], [2.0], [2.0], [1.0]]), torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    assert value_of("auc", "labels", logits, labels) == 3.5 / 4
    assert value_of("mean_average_precision", "labels", logits, labels) == pytest.approx(5 / 6)


@pytest.mark.parametrize("name", OF_LABELS)
def test_one_label_per_image_can_be_measured(labelled, name):
    logits, labels = labelled[0][:, :1] - 0.35, labelled[1][:, :1]
    expected = OF_LABELS[name](labels.flatten(), logits.flatten()) if name != "f1" else None
    expected = sklearn_metrics.f1_score(labels.flatten(), logits.flatten() > 0) if expected is None else expected
    assert value_of(name, "labels", logits, labels) == pytest.approx(expected, abs=1e-6)


def test_auc_is_the_mean_over_classes_that_have_images(classified):
    logits, classes = classified[0], classified[1] % 2  # no image of class 2
    each = [sklearn_metrics.roc_auc_score(classes == k, logits.double().softmax(1)[:, k]) for k in (0, 1)]
    assert value_of("auc", "class", logits, classes) == pytest.approx(np.mean(each), abs=1e-9)


@pytest.mark.parametrize("of_all", [0.0, 1.0])
def test_auc_is_the_mean_over_labels_that_some_images_have(labelled, of_all):
    logits, labels = labelled
    labels[:, 2] = of_all
    expected = sklearn_metrics.roc_auc_score(labels[:, :2], logits[:, :2])
    assert value_of("auc", "labels", logits, labels) == pytest.approx(expected, abs=1e-9)


def test_auc_of_a_single_class_is_no_number(classified):
    assert math.isnan(value_of("auc", "class", classified[0], torch.zeros(90, dtype=torch.int64)))
    assert math.isnan(value_of("auc", "labels", classified[0], torch.ones(90, 3)))


@pytest.mark.parametrize("name", ["f1", "mean_average_precision"])
def test_a_label_that_no_image_has_counts_as_0(labelled, name):
    logits, labels = labelled
    labels[:, 2] = 0
    expected = 2 / 3 * OF_LABELS[name](labels[:, :2], logits[:, :2])
    assert value_of(name, "labels", logits, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (2000, 10), (1e5, 100), (1e4, 3), (0, 1e-4)])
def test_r2_of_targets_far_from_0(mean, deviation):
    """The formula in numpy, in float64. Sums of squares in float32 gave 1.07 for a mean of 1e4 and a deviation of 3."""
    targets = mean + deviation * torch.randn(5000, 2, generator=generator())
    outputs = targets + deviation / 2 * torch.randn(5000, 2, generator=generator(1))
    y, predicted = targets.double().numpy(), outputs.double().numpy()
    expected = (1 - ((predicted - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).mean()
    assert value_of("r2", "values", outputs, targets) == pytest.approx(expected, abs=1e-12)


def test_r2_of_equal_targets_is_that_of_scikit_learn():
    targets = torch.tensor([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])
    outputs = torch.tensor([[0.1, 0.1], [0.1, 0.2], [0.1, 0.1]])
    assert value_of("r2", "values", outputs, targets) == sklearn_metrics.r2_score(targets, outputs) == 0.5
