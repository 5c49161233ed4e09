"""The checks of labels and names that every source passes: the smallest sets that were wrong in silence."""

import numpy as np
import pytest
import torch
from PIL import Image

from explorer import InvalidInput
from explorer.data import ResidentData, StreamedData
from explorer.spec import DataSpec

SPEC = DataSpec(name="my.module:source", image_size=8)


class Labelled:
    """Images of one pixel with the given labels."""

    def __init__(self, labels, classes=None, names=None, targets=True):
        self.labels = labels
        if targets:
            self.targets = labels
        if classes:
            self.classes = classes
        if names:
            self.names = names

    def __len__(self):
        return 20

    def __getitem__(self, number):
        return Image.new("RGB", (1, 1)), self.labels[number]


def two_classes(**settings) -> Labelled:
    return Labelled([number % 2 for number in range(20)], **settings)


def source(train=None, test=None, validation=None) -> StreamedData:
    return StreamedData(SPEC, train or two_classes(), test or two_classes(), validation or two_classes())


@pytest.mark.parametrize("targets", [True, False])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, None] * 5, r"data\.test_split: 'validation': 10 of 20 images have no label \(None or .*example image 2"),
        ([0, 1, 1.0, "1"] * 5, r"the label of image 2 is 1\.0; labels must be integers from 0"),
        (["cat", "dog"] * 10, r"the label of image 0 is 'cat'; labels must be integers"),
        ([0, 2] * 10, r"data\.test_split: 'validation': has classes that no training image has: 2"),
    ],
)
def test_labels_that_cannot_be_right_are_refused(labels, message, targets):
    with pytest.raises(InvalidInput, match=message):
        source(test=Labelled(labels, targets=targets))


@pytest.mark.parametrize("labels", [np.arange(20) % 2, torch.arange(20) % 2, [np.int64(number % 2) for number in range(20)]])
def test_labels_may_be_any_integers(labels):
    assert source(train=Labelled(labels)).inventory.train.per_class == (10, 10)


def test_as_many_labels_as_images():
    with pytest.raises(InvalidInput, match=r"data\.train_split: 'train': has 19 labels for 20 images"):
        source(train=Labelled([0, 1] * 9 + [0]))


def test_the_number_of_classes_is_that_of_the_names():
    """Three classes are named and two have images: an output that is never right is stated, not dropped."""
    names = ["cat", "dog", "eel"]
    data = source(*[two_classes(classes=names)] * 1)
    assert (data.classes, data.class_names) == (3, ("cat", "dog", "eel"))
    assert "train: no images of 1 of 3 classes, for example 'eel'" in data.inventory.warnings
    with pytest.raises(InvalidInput, match=r"the label of image 1 is 3, but there are 3 classes: 0 to 2"):
        source(train=Labelled([0, 3] * 10, classes=names))


def test_classes_without_names_are_counted_by_the_largest_label():
    labels = Labelled([1, 2] * 10)
    data = source(labels, Labelled([1, 2] * 10), Labelled([1, 2] * 10))
    assert data.class_names == ("0", "1", "2")
    assert "train: no images of 1 of 3 classes, for example '0'" in data.inventory.warnings
    with pytest.raises(InvalidInput, match=r"image 1 is 20, but there are only 20 images; classes must be numbered from 0"):
        source(train=Labelled([0, 20] * 10))


def test_a_split_that_numbers_its_classes_differently_is_refused():
    with pytest.raises(InvalidInput, match=r"data\.test_split: .* numbers its classes differently .*'dog' is 0 instead of 1"):
        source(train=two_classes(classes=["cat", "dog"]), test=two_classes(classes=["dog", "cat"]))


def test_a_split_may_lack_the_last_classes():
    """As torchvision's `ImageFolder` of a test folder without the last class; the labels are those of the training images."""
    train = Labelled([number % 3 for number in range(20)], classes=["cat", "dog", "eel"])
    data = source(train=train, test=two_classes(classes=["cat", "dog"]))
    assert data.inventory.test.per_class == (10, 10, 0)
    with pytest.raises(InvalidInput, match=r"numbers its classes differently .*'eel' is 1 instead of 2"):
        source(train=train, test=two_classes(classes=["cat", "eel"]))
    with pytest.raises(InvalidInput, match=r"data\.test_split: .*has classes that no training image has: 2"):
        source(train=two_classes(classes=["cat", "dog"]), test=Labelled([0, 2] * 10, classes=["cat", "dog", "cat"]))


def test_an_image_in_two_splits_is_refused():
    one = two_classes()
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'validation': has 20 images of data\.validation_split"):
        source(test=one, validation=one)
    train, test = ([f"{number}.png" for number in range(first, first + 20)] for first in (0, 17))
    with pytest.raises(InvalidInput, match=r"has 3 images of data\.train_split \('train'\), for example 17\.png; "):
        source(train=two_classes(names=train), test=two_classes(names=test))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], r"data: test: labels \(2,\): each of the 2 images must have a label from 0 to 2"),
        ([0, -1], r"data: test: .* must have a label from 0"),
        ([0.0, 1.0], r"data: test: torch\.float32: labels must be integers"),
        ([0, 1, 0], r"data: test: "),
    ],
)
def test_tensors_have_the_same_checks(labels, message):
    images = dict.fromkeys(("train", "validation", "test"), torch.zeros(2, 1, 4, 4))
    good = dict.fromkeys(images, torch.tensor([0, 1]))
    assert ResidentData(images, good, classes=2, class_names=["cat", "dog"]).inventory.class_names == ("cat", "dog")
    classes = 3 if max(labels) == 2 else 2
    with pytest.raises(InvalidInput, match=message if max(labels) != 2 else "has classes that no training image has: 2"):
        ResidentData(images, {**good, "test": torch.tensor(labels)}, classes=classes)
    with pytest.raises(InvalidInput, match=r"class_names: \['cat'\]: must be the names of the 2 classes"):
        ResidentData(images, good, classes=2, class_names=["cat"])
