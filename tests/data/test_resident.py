import pytest
import torch

from explorer import InvalidInput
from explorer.data import ResidentData, TrainStream, open_data
from explorer.spec import Augmentation, DataSpec

CPU = torch.device("cpu")


def test_digits_are_split_as_stated_without_overlap_and_stratified():
    data = open_data(DataSpec(name="digits"))
    sizes = {split: len(labels) for split, labels in data.labels.items()}
    assert sizes == {"train": 1149, "validation": 288, "test": 360}
    rows = {tuple(image.flatten().tolist()) for images in data.images.values() for image in images}
    assert len(rows) == 1797
    for labels in data.labels.values():
        shares = torch.bincount(labels, minlength=10) / len(labels)
        assert shares.min() > 0.085
        assert shares.max() < 0.115


def test_digits_at_another_size():
    data = open_data(DataSpec(name="digits", image_size=16))
    images, _ = next(data.train_batches(TrainStream(seed=0, steps=1, batch_size=4)))
    assert images.shape == (4, 1, 16, 16)


def first_batch(augmentation: Augmentation):
    data = open_data(DataSpec(name="digits"))
    return next(data.train_batches(TrainStream(seed=5, steps=1, batch_size=64, augmentation=augmentation)))


def test_shifting_moves_images_and_keeps_labels():
    (plain, labels), (moved, same) = first_batch(Augmentation()), first_batch(Augmentation(shift=1))
    assert torch.equal(labels, same)
    assert not torch.equal(plain, moved)
    # Every image is the original, shifted by -1, 0 or 1 in each direction.
    padded = torch.nn.functional.pad(plain, (1, 1, 1, 1), value=-1.0)
    shifted = torch.stack([padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    assert (shifted == moved).flatten(2).all(2).any(0).all()


def test_flipping_mirrors_about_half_of_the_images():
    (plain, _), (flipped, _) = first_batch(Augmentation()), first_batch(Augmentation(flip=True))
    unchanged = (plain == flipped).flatten(1).all(1)
    mirrored = (plain.flip(-1) == flipped).flatten(1).all(1)
    assert (unchanged | mirrored).all()
    assert 16 <= int(mirrored.sum()) <= 48  # 32 expected; further away has a probability below 1e-4


def test_brightness_is_normalized_to_minus_one_to_one():
    images = {
        split: torch.full((4, 1, 2, 2), 51 * i, dtype=torch.uint8) for i, split in enumerate(("train", "validation", "test"))
    }
    labels = {split: torch.zeros(4, dtype=torch.int64) for split in images}
    data = ResidentData(images, labels, classes=1)
    # 51 of 255 is a fifth of the way from -1 to 1.
    for split, value in (("validation", -0.6), ("test", -0.2)):
        ((batch, _),) = data.evaluation_batches(split, CPU)
        assert torch.allclose(batch, torch.full((4, 1, 2, 2), value))


def splits(**changes):
    tensors = {"train": torch.rand(4, 1, 2, 2), "validation": torch.rand(4, 1, 2, 2), "test": torch.rand(4, 1, 2, 2)}
    return tensors | changes


LABELS = {split: torch.arange(4) for split in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ({"train": torch.rand(4, 1, 2, 2)}, LABELS, "data: validation: None: this split has no images"),
        (splits(test=torch.rand(0, 1, 2, 2)), LABELS, "data: test: None: this split has no images"),
        (splits(train=torch.rand(4, 1, 2, 3)), LABELS, r"data: train: \(4, 1, 2, 3\): images must be square"),
        (splits(test=torch.rand(4, 3, 2, 2)), LABELS, "data: test: .*of one size"),
        (splits(train=torch.rand(5, 1, 2, 2)), LABELS, "data: train: .*each of the 5 images must have a label from 0 to 3"),
        (splits(), {**LABELS, "test": torch.arange(4) + 1}, "data: test: .*must have a label from 0 to 3"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(images, labels, message):
    with pytest.raises(InvalidInput, match=message):
        ResidentData(images, labels, classes=4)
