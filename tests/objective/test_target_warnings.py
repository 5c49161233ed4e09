"""What is said of targets before a training: classes that AUC leaves out, and values far from 0."""

import pytest
import torch

from explorer.data.resident import ResidentData
from explorer.training.task import Task
from tests.objective.test_losses import task_spec

NAMES = ("low", "medium", "high")


def warnings_of(kind, train, test, metric, names=NAMES, **objective):
    """The warnings of a task with targets, of which the first ones are repeated for 40 training images and 6 of other splits."""
    targets = {"train": train, "validation": train, "test": test}
    images = {"train": torch.zeros(40, 1, 8, 8), "validation": torch.zeros(6, 1, 8, 8), "test": torch.zeros(6, 1, 8, 8)}
    repeated = {split: torch.tensor(targets[split] * 40)[: len(images[split])] for split in images}
    data = ResidentData(images, repeated, len(names), names, kind)
    return Task(task_spec(metric=metric, **objective), data=data).warnings


def test_classes_that_auc_leaves_out_are_said():
    said = warnings_of("class", [0, 1, 2], [0, 1], "auc")
    assert said == ("test AUC: mean over 2 of 3 classes; the split has no images of 'high'",)
    assert warnings_of("class", [0, 1, 2], [0, 1], "accuracy", also="auc") == said
    assert warnings_of("class", [0, 1, 2], [0, 1], "f1") == ()
    assert warnings_of("class", [0, 1, 2], [0, 1, 2], "auc") == ()


def test_a_split_of_a_single_class_has_no_auc():
    (said,) = warnings_of("class", [0, 1, 2], [1], "auc")
    assert said == "test AUC cannot be measured: of each class, the split has no images or no others"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
            "mean over 1 of 3 classes; the split has no images or only images of 'medium' and 1 more",
        ),
        ([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], "mean over 2 of 3 classes; the split has only images of 'high'"),
    ],
)
def test_labels_that_auc_leaves_out_are_said(test, expected):
    train = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert warnings_of("labels", train, test, "auc", loss="binary_cross_entropy") == (f"test AUC: {expected}",)


def test_values_far_from_0_are_said():
    """40 values of 1998 and 2002 in turn: mean 2000, standard deviation 2."""
    arguments = {"metric": "mae", "loss": "huber"}
    years = [[1998.0, -1.0], [2002.0, 1.0]]
    (said,) = warnings_of("values", years, years, names=("year", "other"), **arguments)
    assert said.startswith(
        "targets 'year' are far from 0: mean 2000, standard deviation 2. A model starts from predictions near 0"
    )
    near = [[4.0], [8.0]]  # mean 6, standard deviation 2: three of them
    assert warnings_of("values", near, near, names=("near",), **arguments) == ()
    far = [[4.5, -104.0], [8.5, -100.0]]
    (said,) = warnings_of("values", far, far, names=("a", "b"), **arguments)
    assert said.startswith("targets 'a' (and 1 more) are far from 0: mean 6.5, standard deviation 2.")
