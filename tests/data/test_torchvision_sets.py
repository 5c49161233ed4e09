"""torchvision's data sets: which names of splits open which images."""

import hashlib
import os
import shutil
import struct

import numpy as np
import pytest
import torch

from explorer import InvalidInput
from explorer.data import open_data
from explorer.data.image_access import without_images
from explorer.data.labels import label_values
from tests.data.conftest import folder_spec


@pytest.fixture(scope="module")
def fashion_mnist(tmp_path_factory):
    """60 training images with pixels of 200 and 20 test images with pixels of 50, in Fashion-MNIST's files."""
    root = tmp_path_factory.mktemp("fashion")
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for split, count, value in (("train", 60, 200), ("t10k", 20, 50)):
        images = np.full((count, 28, 28), value, dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())
    return root


def fashion(root, **changes):
    return folder_spec(root, name="torch/fashion_mnist", image_size=28, **changes)


@pytest.mark.parametrize("split", ["trian", "Train", "train[:10000]", "", "test "])
def test_a_split_that_is_unknown_is_refused_and_never_the_test_images(fashion_mnist, split):
    for field in ("train_split", "validation_split", "test_split"):
        with pytest.raises(InvalidInput, match=rf"data\.{field}: .*has no such split; must be one of train, training, valid"):
            open_data(fashion(fashion_mnist, **{field: split}))


@pytest.mark.parametrize(("split", "test_split"), [("train", "validation"), ("training", "test"), ("train", "val")])
def test_training_and_test_images_are_those_of_their_files(fashion_mnist, split, test_split):
    data = open_data(fashion(fashion_mnist, train_split=split, test_split=test_split))
    inventory = data.inventory
    assert (inventory.train.images, inventory.validation.images, inventory.test.images) == (50, 10, 20)
    assert inventory.test.per_class == (2,) * 10
    assert inventory.class_names[0] == "T-shirt/top"
    dataset = data.splits["train"].data
    assert torch.tensor(np.asarray(dataset[0][0])).unique().tolist() == [200]
    assert dataset.names[:2] == ["train/0", "train/1"]
    assert torch.tensor(np.asarray(data.splits["test"].data[0][0])).unique().tolist() == [50]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_split": "train"}, r"data\.test_split: 'train': has 60 images of data\.train_split \('train'\)"),
        ({"train_split": "test", "test_split": "val"}, r"data\.test_split: 'val': has 20 images of data\.train_split"),
        (
            {"validation_split": "val", "test_split": "test"},
            r"data\.test_split: 'test': has 20 images of data\.validation_split",
        ),
    ],
)
def test_one_split_under_two_names_is_refused(fashion_mnist, changes, message):
    with pytest.raises(InvalidInput, match=message):
        open_data(fashion(fashion_mnist, **changes))


def test_splits_of_folders_are_found_by_name_or_synonym(image_folder, tmp_path):
    root = shutil.copytree(image_folder, tmp_path / "images")
    (root / "validation").rename(root / "val")
    (root / "train" / "dark" / "._000.png").write_bytes(b"left by an archiver")
    (root / "train" / "dark" / "notes.txt").touch()
    data = open_data(folder_spec(root, name="torch/image_folder"))
    assert data.inventory.test.images == 12
    assert data.splits["test"].data.names[0] == "val/bright/000.png"
    assert data.inventory.train.passed_over == {"hidden file": 1, ".txt: not a format that torchvision reads": 1}
    for split in ("train[:100]", "test", ""):
        with pytest.raises(InvalidInput, match=r"data\.test_split: .*there is no such folder in "):
            open_data(folder_spec(root, name="torch/folder", test_split=split))
    (root / "valid").mkdir()
    with pytest.raises(InvalidInput, match=r"several may be meant: val, valid"):
        open_data(folder_spec(root, name="torch/folder", num_workers=1))


def test_sizes_of_files_leave_the_listing_as_it_was(image_folder):
    """Sweeps and model cards of earlier releases are compared by it; it is the digest of names and labels."""
    data = open_data(folder_spec(image_folder, name="torch/image_folder"))
    test = data.splits["test"]
    lines = [f"{name}\0\0{label}\n" for name, label in zip(test.image_names, test.labels, strict=True)]
    assert data.inventory.test.listing == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert test.data.stamp(0)[0] == (image_folder / test.image_names[0]).stat().st_size
    assert without_images(test.data, "val", test.image_names[:1], label_values).is_listed_with_sizes is False


def test_names_that_are_not_utf_8_can_be_read_and_printed(image_folder, tmp_path):
    root = shutil.copytree(image_folder, tmp_path / "images")
    encoded = os.fsencode(root)
    os.rename(encoded + b"/train/dark/000.png", encoded + b"/train/dark/caf\xe9.png")
    for split in (b"train", b"validation"):
        os.rename(encoded + b"/" + split + b"/bright", encoded + b"/" + split + b"/p\xe2le")
    (root / "train" / os.fsdecode(b"a.\xe9")).touch()
    data = open_data(folder_spec(root, name="torch/image_folder"))
    assert data.class_names == ("dark", "p\\xe2le")
    assert data.inventory.test.per_class == (6, 6)
    train = data.splits["train"].data
    assert train[train.names.index("train/dark/caf\\xe9.png")][1] == 0
    assert data.inventory.train.passed_over == {".\\xe9: not a format that torchvision reads": 1}
    data.inventory.model_dump_json()
