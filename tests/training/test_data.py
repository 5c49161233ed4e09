import pytest
import torch

from explorer import InvalidInput
from explorer.training.augmentation import Augmentation
from explorer.training.data import DataSpec, ResidentData, open_data, stream_indices

CPU = torch.device("cpu")


def folder_spec(folder, **changes) -> DataSpec:
    return DataSpec(**{"name": "folder", "root": str(folder), "image_size": 16, **changes})


def test_digits_are_split_as_stated_without_overlap_and_stratified():
    data = ResidentData.digits()
    sizes = {split: len(labels) for split, labels in data._labels.items()}
    assert sizes == {"train": 1149, "validation": 288, "test": 360}
    rows = [tuple(image.flatten().tolist()) for images in data._images.values() for image in images]
    assert len(rows) == 1797
    for labels in data._labels.values():
        counts = torch.bincount(labels, minlength=10) / len(labels)
        assert counts.min() > 0.085
        assert counts.max() < 0.115


def test_an_epoch_visits_every_image_once_and_epochs_differ():
    first, second = stream_indices(0, 0, 100, 100), stream_indices(0, 100, 100, 100)
    assert sorted(first.tolist()) == list(range(100)) == sorted(second.tolist())
    assert first.tolist() != second.tolist()
    assert stream_indices(1, 0, 100, 100).tolist() != first.tolist()


def test_the_stream_depends_on_the_position_alone():
    whole = stream_indices(3, 0, 250, 100)
    pieces = torch.cat([stream_indices(3, start, 50, 100) for start in range(0, 250, 50)])
    assert torch.equal(whole, pieces)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(shift=2, flip=True)])
def test_resident_batches_are_the_same_whenever_they_are_asked_for(augmentation):
    data = ResidentData.digits()
    whole = list(data.train_batches(5, 0, 6, 32, augmentation, CPU))
    late = list(data.train_batches(5, 4, 2, 32, augmentation, CPU))
    for (images, labels), (again, labels_again) in zip(whole[4:], late, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    assert whole[0][0].shape == (32, 1, 8, 8)


def test_augmentation_moves_images_and_keeps_labels():
    data = ResidentData.digits()
    (plain, labels), (moved, same) = (
        next(data.train_batches(5, 0, 1, 64, augmentation, CPU)) for augmentation in (Augmentation(), Augmentation(shift=1))
    )
    assert torch.equal(labels, same)
    assert not torch.equal(plain, moved)
    # Every image is the original, shifted by -1, 0 or 1 in each direction.
    padded = torch.nn.functional.pad(plain, (1, 1, 1, 1), value=-1.0)
    shifted = torch.stack([padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    assert (shifted == moved).flatten(2).all(2).any(0).all()


def test_digits_at_another_size():
    assert next(open_data(DataSpec(name="digits", image_size=16)).train_batches(0, 0, 1, 4, Augmentation(), CPU))[0].shape == (
        4,
        1,
        16,
        16,
    )


def test_image_folder(image_folder):
    data = open_data(folder_spec(image_folder))
    assert (data.classes, data.channels, data.train_images) == (2, 3, 54)  # 6 of 60 are set aside
    validation = list(data.evaluation_batches("validation", CPU))
    test = list(data.evaluation_batches("test", CPU))
    assert [sum(len(labels) for _, labels in part) for part in (validation, test)] == [6, 12]
    assert sorted(torch.cat([labels for _, labels in validation]).tolist()) == [0, 0, 0, 1, 1, 1]
    for images, labels in test:
        assert images.shape[1:] == (3, 16, 16)
        assert ((images.mean((1, 2, 3)) < 0) == (labels == 1)).all()  # dark is the second class


def test_image_folder_with_its_own_validation_split(image_folder):
    data = open_data(folder_spec(image_folder, validation_split="validation"))
    assert data.train_images == 60
    assert sum(len(labels) for _, labels in data.evaluation_batches("validation", CPU)) == 12


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_streamed_batches_depend_on_seed_and_position_alone(image_folder, workers):
    augmentation = Augmentation(transform={"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5})
    one = open_data(folder_spec(image_folder))
    whole = list(one.train_batches(7, 0, 4, 8, augmentation, CPU))
    torch.rand(3)  # other random numbers in between change nothing
    late = list(open_data(folder_spec(image_folder, workers=workers)).train_batches(7, 2, 2, 8, augmentation, CPU))
    for (images, labels), (again, labels_again) in zip(whole[2:], late, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


def test_reading_leaves_the_random_state_alone(image_folder):
    data = open_data(folder_spec(image_folder))
    before = torch.get_rng_state()
    list(data.evaluation_batches("test", CPU))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "/no/such/folder"}, "data.root: '/no/such/folder': there is no such folder"),
        ({"name": "torch/no_such_set"}, "cannot be opened"),
        ({"name": "wds/imagenet"}, "data.name: 'wds/imagenet': is read in sequence"),
    ],
)
def test_data_that_cannot_be_opened_is_refused(image_folder, changes, message):
    with pytest.raises(InvalidInput, match=message):
        open_data(folder_spec(image_folder, **changes))


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"data\.train_split"):
        open_data(folder_spec(tmp_path))
