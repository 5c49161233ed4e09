import io
import shutil
import tarfile

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as pixels

from explorer import InvalidInput
from explorer.data.resident import ResidentData
from explorer.data.source import open_data, stream_indices
from explorer.spec.data import DataSpec, Preprocessing
from explorer.spec.recipe import Augmentation
from explorer.spec.task import TaskSpec
from explorer.training.task import Task

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
        ({"name": "tfds/imagenet"}, "data.name: 'tfds/imagenet': is read in sequence"),
        ({"name": "wds"}, r"data: 'train': there is no train\*\.tar in "),
        ({"name": "wds", "train_split": "a-{00..01}.tar"}, r"there is no a-00\.tar in "),
        ({"root": None}, "data.root: None: is needed"),
        ({"train_split": "trian"}, "data.train_split: 'trian': there is no such folder in "),
        ({"test_split": "test"}, "data.test_split: 'test': there is no such folder in "),
        ({"validation_split": "nosuch"}, "data.validation_split: 'nosuch': there is no such folder in "),
        ({"name": "torch/image_folder", "test_split": "test"}, "data.test_split: 'test': there is no such folder in "),
    ],
)
def test_data_that_cannot_be_opened_is_refused(image_folder, changes, message):
    with pytest.raises(InvalidInput, match=message):
        open_data(folder_spec(image_folder, **changes))


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"data\.train_split"):
        open_data(folder_spec(tmp_path))


def without_class(folder, target, split, name):
    """A copy of a folder of images that lacks a class in a split."""
    shutil.copytree(folder, target)
    shutil.rmtree(target / split / name)
    return target


def test_classes_are_numbered_as_in_training_where_a_split_lacks_one(image_folder, tmp_path):
    """`dark` alone would be class 0 of its split; it is 1."""
    root = without_class(image_folder, tmp_path / "images", "validation", "bright")
    data = open_data(folder_spec(root))
    assert data.classes == 2
    assert {int(label) for _, labels in data.evaluation_batches("test", CPU) for label in labels} == {1}
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'validation': must have all classes"):
        open_data(folder_spec(root, name="torch/image_folder"))


def test_a_class_that_training_lacks_is_refused(image_folder, tmp_path):
    root = without_class(image_folder, tmp_path / "images", "train", "dark")
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'validation': has classes that no training image has: dark"):
        open_data(folder_spec(root, validation_split="train"))


def test_pixels_are_what_the_model_wants_in_training_and_evaluation(image_folder):
    """timm's weights of this name want a mean and deviation of .5; the other's are ImageNet's."""
    image = Image.open(next((image_folder / "validation" / "bright").glob("*.png")))
    for name, mean, std in (
        ("vit_base_patch16_224.augreg_in21k", (0.5,) * 3, (0.5,) * 3),
        ("deit_small_patch16_224", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ):
        spec = {"name": "folder", "root": str(image_folder), "image_size": 20, "preprocessing": {"crop_pct": 1}}
        recipe = {"epochs": 1, "batch_size": 60, "learning_rate": 1e-3}
        plain = {"augmentation": {"transform": {"no_aug": True}}}
        for changes, wanted_mean in (({}, mean), ({"mean": (0.25,) * 3}, (0.25,) * 3)):
            data = {**spec, "preprocessing": {**spec["preprocessing"], **changes}, "validation_split": "validation"}
            task = Task(TaskSpec.model_validate({"model": {"name": name}, "data": data, "recipe": {**recipe, **plain}}))
            first = next(task.data.evaluation_batches("test", CPU))[0][0]
            assert torch.allclose(first, pixels.normalize(pixels.to_tensor(image), wanted_mean, std), atol=1e-6)
            trained = next(task.train_batches(0, 0, 1, CPU))[0]
            evaluated = torch.cat([images for images, _ in task.data.evaluation_batches("test", CPU)])
            assert (trained.mean() - evaluated.mean()).abs() < 0.1  # the same range: 90 +- 30 of 255, bright and dark


def test_what_timm_says_of_a_model_is_the_default():
    assert Preprocessing().for_model("vit_base_patch16_224.augreg_in21k") == Preprocessing(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.9
    )
    assert Preprocessing(crop_pct=1).for_model("deit_small_patch16_224").crop_pct == 1


@pytest.fixture
def shards(image_folder, tmp_path):
    """The images of the folder as WebDataset tar files: three of training, one of evaluation."""
    for split, count in (("train", 3), ("validation", 1)):
        files = [
            (path, label) for label, name in enumerate(("bright", "dark")) for path in (image_folder / split / name).iterdir()
        ]
        for number in range(count):
            with tarfile.open(tmp_path / f"{split}-{number:03d}.tar", "w") as archive:
                for key, (path, label) in enumerate(files[number::count]):
                    for name, content in ((f"{key:04d}.png", path.read_bytes()), (f"{key:04d}.cls", str(label).encode())):
                        entry = tarfile.TarInfo(name)
                        entry.size = len(content)
                        archive.addfile(entry, io.BytesIO(content))
    return tmp_path


@pytest.mark.parametrize("split", ["train", "train-{000..002}.tar"])
def test_web_dataset_shards_are_read_by_number(shards, split):
    data = open_data(folder_spec(shards, name="wds", train_split=split))
    assert (data.classes, data.train_images) == (2, 54)
    seen = [next(data.train_batches(0, step, 1, 6, Augmentation(), CPU)) for step in (0, 5)]
    again = list(data.train_batches(0, 0, 6, 6, Augmentation(), CPU))
    assert torch.equal(seen[1][0], again[5][0])
    for images, labels in data.evaluation_batches("test", CPU):
        assert ((images.mean((1, 2, 3)) < 0) == (labels == 1)).all()


def test_shards_without_class_numbers_are_refused(shards):
    with tarfile.open(shards / "train-003.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("0000.png"))
    with pytest.raises(
        InvalidInput, match=r"data\.root: 'train-003\.tar': is no tar file of images .*0000 has no class number"
    ):
        open_data(folder_spec(shards, name="wds"))
    (shards / "train-003.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(InvalidInput, match=r"data\.root: 'train-003\.tar': is no tar file of images"):
        open_data(folder_spec(shards, name="wds"))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"foo": 1}, "create_transform refuses it: .*foo"),
        ({"auto_augment": "nonsense"}, "create_transform refuses it"),
        ({"mean": [0.5, 0.5, 0.5]}, "mean is not of the augmentation: .*data.preprocessing"),
    ],
)
def test_a_transform_that_timm_cannot_make_is_refused(transform, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(transform=transform)


def test_torchvisions_data_sets_have_their_labels_listed(image_folder):
    data = open_data(folder_spec(image_folder, name="torch/image_folder"))
    assert (data.classes, data.train_images) == (2, 54)
    assert sum(len(labels) for _, labels in data.evaluation_batches("test", CPU)) == 12


def test_hugging_face_data_sets(image_folder, tmp_path, monkeypatch):
    """A data set of theirs, made of the folder; nothing is asked of the network."""
    pytest.importorskip("datasets", reason="pip install 'vit-budget-explorer[hfds]'")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    data = open_data(folder_spec(tmp_path / "cache", name=f"hfds/{image_folder}"))
    assert (data.classes, data.train_images) == (2, 54)
    for images, labels in data.evaluation_batches("test", CPU):
        assert ((images.mean((1, 2, 3)) < 0) == (labels == 1)).all()
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'nosuch': cannot be opened as 'hfds/"):
        open_data(folder_spec(tmp_path / "cache", name=f"hfds/{image_folder}", test_split="nosuch"))
