import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as pixels

from explorer import InvalidInput
from explorer.data import StreamedData, open_data
from explorer.data.preprocessing import preprocessing_for
from explorer.spec import Augmentation, DataSpec, Preprocessing, TaskSpec
from explorer.spec.model import ModelSpec
from explorer.training.task import Task
from tests.data.conftest import folder_spec

CPU = torch.device("cpu")


def dark_images_have_label_1(data, split="test") -> bool:
    return all(((images.mean((1, 2, 3)) < 0) == (labels == 1)).all() for images, labels in data.evaluation_batches(split, CPU))


def test_a_folder_sets_a_stratified_tenth_aside(image_folder):
    data = open_data(folder_spec(image_folder))
    assert (data.classes, data.channels, data.train_images) == (2, 3, 54)  # 6 of 60 are set aside
    validation = torch.cat([labels for _, labels in data.evaluation_batches("validation", CPU)])
    assert sorted(validation.tolist()) == [0, 0, 0, 1, 1, 1]
    assert sum(len(labels) for _, labels in data.evaluation_batches("test", CPU)) == 12
    assert dark_images_have_label_1(data)


def test_a_folder_with_its_own_validation_split(image_folder):
    data = open_data(folder_spec(image_folder, validation_split="validation", test_split=None))
    assert data.train_images == 54  # a tenth is set aside for test
    assert sum(len(labels) for _, labels in data.evaluation_batches("validation", CPU)) == 12
    assert sum(len(labels) for _, labels in data.evaluation_batches("test", CPU)) == 6
    assert data.inventory.test.name == "a tenth of train"
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'validation': has 12 images of data\.validation_split"):
        open_data(folder_spec(image_folder, validation_split="validation"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "/no/such/folder"}, r"data\.root: '/no/such/folder': there is no such folder"),
        (
            {"name": "torch/no_such_set"},
            r"data\.name: 'torch/no_such_set': unknown data set of torchvision; Allowed .* cifar10, ",
        ),
        ({"name": "torch/cifar_10"}, r"did you mean 'torch/cifar10'\?"),
        ({"name": "wds"}, r"data\.train_split: 'train': there is no train\*\.tar in "),
        ({"name": "wds", "train_split": "a-{00..01}.tar"}, r"there is no a-00\.tar in "),
        ({"root": None}, r"data\.root: None: this key is required for 'folder'"),
        ({"train_split": "trian"}, r"data\.train_split: 'trian': there is no such folder in "),
        ({"test_split": "test"}, r"data\.test_split: 'test': there is no such folder in "),
        ({"validation_split": "nosuch"}, r"data\.validation_split: 'nosuch': there is no such folder in "),
        ({"name": "torch/image_folder", "test_split": "test"}, r"data\.test_split: 'test': there is no such folder in "),
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
    same = open_data(folder_spec(root, name="torch/image_folder"))
    assert {int(label) for _, labels in same.evaluation_batches("test", CPU) for label in labels} == {1}
    assert "test: no images of 1 of 2 classes, for example 'bright'" in same.inventory.warnings


def test_a_class_that_training_lacks_is_refused(image_folder, tmp_path):
    root = without_class(image_folder, tmp_path / "images", "train", "dark")
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'validation': has classes that no training image has: dark"):
        open_data(folder_spec(root))
    with pytest.raises(InvalidInput, match=r"'validation': .*has classes that no training image has: dark"):
        open_data(folder_spec(root, name="torch/image_folder"))


@pytest.mark.parametrize("split", ["train", "train-{000..002}.tar"])
def test_tar_shards_are_named_by_prefix_or_range(tar_shards, split):
    data = open_data(folder_spec(tar_shards, name="wds", train_split=split))
    assert (data.classes, data.train_images) == (2, 54)
    assert dark_images_have_label_1(data)


def test_tar_shards_without_labels_are_refused(tar_shards, tmp_path):
    root = shutil.copytree(tar_shards, tmp_path / "shards")
    with tarfile.open(root / "train-003.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("0000.png"))
    with pytest.raises(InvalidInput, match=r"data\.root: 'train-003\.tar': is not a tar file of images .*0000 has no label"):
        open_data(folder_spec(root, name="wds"))
    (root / "train-003.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(InvalidInput, match=r"data\.root: 'train-003\.tar': is not a tar file of images"):
        open_data(folder_spec(root, name="wds", train_split="train-{000..003}.tar"))


def test_tar_shards_without_images_are_refused(tmp_path):
    tarfile.open(tmp_path / "train-000.tar", "w").close()
    with pytest.raises(InvalidInput, match=r"data\.train_split: 'train': has no images under "):
        open_data(folder_spec(tmp_path, name="wds"))


def test_torchvision_data_sets(image_folder, mnist):
    folder = open_data(folder_spec(image_folder, name="torch/image_folder"))
    assert (folder.classes, folder.train_images) == (2, 54)
    assert dark_images_have_label_1(folder)
    digits = open_data(folder_spec(mnist, name="torch/mnist", image_size=28))
    assert (digits.classes, digits.train_images) == (10, 30)  # one of the four images of each class is set aside
    assert digits.class_names[:2] == ("0 - zero", "1 - one")


def test_hugging_face_data_sets(hugging_face):
    data = open_data(hugging_face)
    assert (data.classes, data.train_images) == (2, 54)
    assert dark_images_have_label_1(data)
    with pytest.raises(InvalidInput, match=r"data\.test_split: 'nosuch': cannot be opened as 'hfds/"):
        open_data(hugging_face.model_copy(update={"test_split": "nosuch"}))


def test_pixels_are_what_the_model_wants_in_training_and_evaluation(image_folder):
    """timm's weights of the first name want a mean and deviation of .5; those of the other, ImageNet's."""
    first = sorted((image_folder / "validation" / "bright").glob("*.png"))[0]
    image = Image.open(first)
    for name, mean, std in (
        ("vit_base_patch16_224.augreg_in21k", (0.5,) * 3, (0.5,) * 3),
        ("deit_small_patch16_224", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ):
        spec = {"name": "folder", "root": str(image_folder), "image_size": 20, "preprocessing": {"crop_pct": 1}}
        recipe = {"epochs": 1, "batch_size": 54, "learning_rate": 1e-3}
        plain = {"augmentation": {"transform": {"no_aug": True}}}
        for changes, wanted_mean in (({}, mean), ({"mean": (0.25,) * 3}, (0.25,) * 3)):
            data = {**spec, "preprocessing": {**spec["preprocessing"], **changes}}
            task = Task(TaskSpec.model_validate({"model": {"name": name}, "data": data, "recipe": {**recipe, **plain}}))
            first = next(task.data.evaluation_batches("test", CPU))[0][0]
            assert torch.allclose(first, pixels.normalize(pixels.to_tensor(image), wanted_mean, std), atol=1e-6)
            trained = next(task.train_batches(0, 0, 1, CPU))[0]
            evaluated = torch.cat([images for images, _ in task.data.evaluation_batches("test", CPU)])
            assert (trained.mean() - evaluated.mean()).abs() < 0.1  # the same range: 90 +- 30 of 255, bright and dark


def test_timm_fills_in_the_preprocessing_that_is_not_given():
    assert preprocessing_for(Preprocessing(), ModelSpec(name="vit_base_patch16_224.augreg_in21k")) == Preprocessing(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.9, crop_mode="center"
    )
    assert preprocessing_for(Preprocessing(crop_pct=1), ModelSpec(name="deit_small_patch16_224")).crop_pct == 1


def local_model(folder: Path) -> Path:
    """A model as `timm.models.save_for_hf` writes one, with pixels of its own."""
    configuration = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.1] * 3, "crop_mode": "squash"}}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**configuration, "num_classes": 5}))
    return folder


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # The same architecture, with weights that were trained on different pixels.
        ({"name": "vit_small_patch16_224.augreg_in1k"}, ((0.5,) * 3, "center")),
        ({"name": "vit_small_patch16_224.dino"}, ((0.485, 0.456, 0.406), "center")),
        ({"name": "vit_medium_patch16_gap_384.sw_in12k_ft_in1k"}, ((0.5,) * 3, "squash")),
        ({"name": "vit_small_patch16_224", "options": {"pretrained_cfg": "dino"}}, ((0.485, 0.456, 0.406), "center")),
        ({"name": "vit_small_patch16_224", "options": {"pretrained_cfg_overlay": {"mean": [0.2] * 3}}}, ((0.2,) * 3, "center")),
        ({"name": "local-dir:$MODELS/mine"}, ((0.1,) * 3, "squash")),
    ],
)
def test_the_models_own_configuration_is_found_wherever_it_is_given(model, expected, tmp_path, monkeypatch, image_folder):
    monkeypatch.setenv("MODELS", str(tmp_path))
    local_model(tmp_path / "mine")
    found = preprocessing_for(Preprocessing(), ModelSpec(**model))
    assert (found.mean, found.crop_mode) == expected
    # It is what the images have: black pixels are -mean / std.
    data = {"name": "folder", "root": str(image_folder), "image_size": 20}
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    source = Task(TaskSpec.model_validate({"model": model, "data": data, "recipe": recipe})).data
    normalize = source._evaluation_transform.transforms[-1]
    assert normalize.mean.tolist() == pytest.approx(expected[0])


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    for model, message in (
        ({"name": f"local-dir:{tmp_path}/nosuch"}, r"model\.name: .*finds no configuration: .*config\.json"),
        ({"name": "vit_small_patch16_224.nosuch"}, r"model\.name: .*Invalid pretrained tag"),
        ({"name": "vit_small_patch16_224", "options": {"pretrained_cfg_overlay": {"means": [1]}}}, r"model\.options: .*means"),
    ):
        with pytest.raises(InvalidInput, match=message):
            preprocessing_for(Preprocessing(), ModelSpec(**model))


def test_images_that_are_not_square_are_squashed_where_the_model_wants_it():
    """A white bar at the left edge of a 40 x 20 image is cropped away, unless the image is squashed."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 4, 20))
    for mode, brightness in (("center", 0.0), ("squash", 1.0)):
        pixels_of = {"mean": (0,) * 3, "std": (1,) * 3, "crop_pct": 1, "crop_mode": mode, "interpolation": "bilinear"}
        spec = DataSpec(name="x", image_size=20, preprocessing=pixels_of)
        source = StreamedData(spec, Repeated(image), Repeated(image), Repeated(image))
        images = next(source.evaluation_batches("test", CPU))[0]
        assert images[0, 0, 10, 0] == brightness


class Repeated:
    """The same image four times, in two classes."""

    def __init__(self, image):
        self.image, self.targets = image, [0, 1, 0, 1]

    def __len__(self):
        return 4

    def __getitem__(self, number):
        return self.image, self.targets[number]


def test_the_root_may_have_a_variable_and_the_spec_keeps_it(image_folder, monkeypatch):
    monkeypatch.setenv("IMAGES", str(image_folder))
    spec = {**folder_spec("${IMAGES}").model_dump(), "image_size": 20}
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    task = Task(TaskSpec.model_validate({"model": {"name": "vit_tiny_patch16_224"}, "data": spec, "recipe": recipe}))
    assert task.data.train_images == 54
    assert task.spec.data.root == "${IMAGES}"
    monkeypatch.delenv("IMAGES")
    with pytest.raises(InvalidInput, match=r"data\.root: '\$\{IMAGES\}': the environment variable IMAGES is not set"):
        open_data(folder_spec("${IMAGES}"))


def test_an_image_size_is_required_for_all_but_digits(image_folder):
    recipe = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    assert DataSpec(name="digits").image_size == 8
    for name in ("folder", "fractals"):
        data = {"name": name, "root": str(image_folder)}
        task = TaskSpec.model_validate({"model": {"name": "deit3_base_patch16_384"}, "data": data, "recipe": recipe})
        message = f"data\\.image_size: None: this key is required for '{name}'"
        with pytest.raises(InvalidInput, match=f"{message}; deit3_base_patch16_384 was published for 384 pixels"):
            Task(task)
        with pytest.raises(InvalidInput, match=message):
            open_data(task.data)


def test_mean_and_std_do_not_belong_in_the_transform():
    with pytest.raises(ValueError, match=r"mean does not belong in augmentation\.transform: .*data\.preprocessing"):
        Augmentation(transform={"mean": [0.5, 0.5, 0.5]})
