"""Balanced sampling: every class equally often, by seed and position alone."""

import pytest
import torch

from explorer import InvalidInput
from explorer.data import ResidentData, TrainStream
from explorer.data.stream import BalancedOrder
from explorer.spec.rates import Rates
from explorer.training.distributed import Processes
from explorer.training.task import Task
from tests.objective.test_losses import task_spec

LABELS = (torch.arange(101) % 10 == 0).long() + 2 * (torch.arange(101) % 50 == 1).long()
"""86 or so images of class 0, 11 of class 1, 3 of class 2."""


def test_an_epoch_has_every_class_equally_often_and_every_image_of_a_class_too():
    order = BalancedOrder(LABELS)
    for epoch in range(3):
        drawn = order.indices(0, epoch * 101, 101)
        counts = torch.bincount(LABELS[drawn])
        assert counts.max() - counts.min() <= 1
        for label in range(3):
            images = torch.bincount(drawn[LABELS[drawn] == label], minlength=101)[label == LABELS]
            assert images.max() - images.min() <= 1


def test_the_order_depends_on_seed_and_position_alone():
    whole = BalancedOrder(LABELS).indices(3, 0, 250)
    again = BalancedOrder(LABELS)
    parts = [again.indices(3, start, 50) for start in (200, 0, 100, 50, 150)]
    assert torch.equal(whole[200:250], parts[0])
    assert torch.equal(whole[:50], parts[1])
    assert not torch.equal(whole[:101], whole[101:202])
    assert not torch.equal(whole, BalancedOrder(LABELS).indices(4, 0, 250))


def test_training_sees_as_many_rare_images_as_common_ones():
    task = Task(task_spec("Imbalanced", sampling="balanced"))
    batches = [targets for _, targets in task.train_batches(0, 0, 10, torch.device("cpu"))]
    assert torch.bincount(torch.cat(batches)).tolist() == [160, 160]  # an epoch of 320 images
    assert task.train_images == 320  # so that its length and cost are as before
    halves = [
        [targets for _, targets in task.train_batches(0, 0, 10, torch.device("cpu"), Processes(rank, 2), Rates())]
        for rank in (0, 1)
    ]
    assert torch.equal(torch.cat([torch.cat(pair) for pair in zip(*halves, strict=True)]), torch.cat(batches))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_class_without_training_images_is_refused_as_for_class_weights(empty):
    """A class that the data names and no image has cannot be drawn equally often."""
    labels = torch.tensor([label for label in range(3) if label != empty]).repeat(20)
    splits = ("train", "validation", "test")
    data = ResidentData(dict.fromkeys(splits, torch.zeros(40, 1, 8, 8)), dict.fromkeys(splits, labels), classes=3)
    for setting in ("sampling", "class_weights"):
        message = rf"objective\.{setting}: 'balanced': needs training images of every class: class {empty} has no image"
        with pytest.raises(InvalidInput, match=message):
            Task(task_spec("digits", **{setting: "balanced"}), data)


def test_the_images_of_a_folder_are_balanced_with_both_backends(tmp_path):
    from PIL import Image

    from explorer.data import open_data
    from explorer.spec.data import DataSpec
    from explorer.spec.recipe import Augmentation

    for split, counts in (("train", (12, 3)), ("validation", (2, 2)), ("test", (2, 2))):
        for name, count in zip("ab", counts, strict=True):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                color = (10 + 20 * number, 0 if name == "a" else 255, {"train": 0, "validation": 90, "test": 200}[split])
                Image.new("RGB", (16, 16), color).save(folder / f"{number}.png")
    spec = DataSpec(name="folder", root=str(tmp_path), image_size=16, validation_split="validation", test_split="test")
    data = open_data(spec)
    order = BalancedOrder(torch.tensor(data.train_labels))
    for backend in ("pil", "tensor"):
        augmentation = Augmentation(transform={"no_aug": True}, backend=backend)
        stream = TrainStream(seed=0, steps=5, batch_size=6, augmentation=augmentation, order=order)
        labels = torch.cat([targets for _, targets in data.train_batches(stream)])
        assert torch.bincount(labels).tolist() == [15, 15]
        assert torch.equal(labels, torch.tensor(data.train_labels)[order.indices(0, 0, 30)])
