"""Folders of images as people have them."""

import os
import shutil

import pytest
import torch
from PIL import Image

from explorer import InvalidInput
from explorer.data import open_data
from explorer.data.folder import HIDDEN, OUTSIDE
from explorer.training.task import Task
from tests.data.conftest import folder_spec

COLOURS = {"cat": (200, 0, 0), "dog": (0, 0, 200)}


def write(path, colour=(90, 90, 90), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path, **options)


def write_set(root, count=10, ending=".png", **options):
    """`count` images of each of two classes to train on, and two of each to test on."""
    for split, images in (("train", count), ("validation", 2)):
        for number in range(images):
            for shade, (name, colour) in enumerate(COLOURS.items()):
                unlike = tuple(min(255, value + number + (split == "train") * 20 + shade) for value in colour)
                write(root / split / name / f"{number}{ending}", unlike, **options)


def names_of(data, role="train"):
    return data.splits[role].image_names


def test_all_formats_are_read_whatever_their_ending(tmp_path):
    """240 .webp files, which timm passes over without a word; and endings in capitals, unusual ones, and none."""
    write_set(tmp_path, 120, ".webp")
    for name, kind in (("A.BMP", "BMP"), ("b.JpEg", "JPEG"), ("c.dat", "JPEG"), ("d", "PNG"), ("e.gif", "GIF")):
        write(tmp_path / "train" / "cat" / name, format=kind)
    data = open_data(folder_spec(tmp_path))
    assert data.inventory.train.images + data.inventory.validation.images == 245
    assert data.inventory.train.passed_over == {}
    assert data.inventory.class_names == ("cat", "dog")


def test_what_is_not_read_is_counted(tmp_path):
    write_set(tmp_path)
    cat = tmp_path / "train" / "cat"
    write(cat / "._1.png")
    write(tmp_path / "train" / ".ipynb_checkpoints" / "1.png")
    write(tmp_path / "train" / "__MACOSX" / "cat" / "1.png")
    write(tmp_path / "train" / "outside.png")
    for name in ("Thumbs.db", ".DS_Store", "1.json", "2.json", "notes.TXT", "empty", "weights.bin"):
        (cat / name).write_bytes(b"not an image")
    (tmp_path / "train" / "bird").mkdir()
    inventory = open_data(folder_spec(tmp_path)).inventory
    assert inventory.train.passed_over == {
        HIDDEN: 5,
        OUTSIDE: 1,
        ".json: not an image format": 2,
        ".txt: not an image format": 1,
        ".bin: not an image format": 1,
        "without an ending, not an image": 1,
    }
    assert inventory.train.remarks == {"class folders without images: bird": 1}
    assert inventory.warnings[0].startswith("train: 11 files not read: ")
    assert inventory.train.images == 18  # a tenth of 20 is set aside


def test_class_folders_two_deep_are_refused_until_the_user_chooses(tmp_path):
    for place in ("animal/cat", "animal/dog", "plant/rose"):
        for number in range(4):
            write(tmp_path / "train" / place / f"{number}.png", (number, 0, 0))
            write(tmp_path / "validation" / place / f"{number}.png", (number, 9, 0))
    message = r"'train': has class folders in class folders \(animal/cat\): set data\.class_folder to top \(2 classes: animal, "
    with pytest.raises(InvalidInput, match=message + r"plant\) or to leaf \(3 classes: cat, dog, rose\)"):
        open_data(folder_spec(tmp_path))
    for choice, names in (("top", ("animal", "plant")), ("leaf", ("cat", "dog", "rose"))):
        assert open_data(folder_spec(tmp_path, class_folder=choice)).inventory.class_names == names


def test_classes_and_images_are_in_natural_order_as_timm_has_them(tmp_path):
    for name in ("10", "9", "b2", "B10", "a"):
        write(tmp_path / "train" / name / "2.png")
        write(tmp_path / "train" / name / "10.png")
        write(tmp_path / "validation" / name / "1.png")
    data = open_data(folder_spec(tmp_path, validation_split="validation", test_split=None))
    assert data.inventory.class_names == ("9", "10", "a", "b2", "B10")
    joined = sorted([*names_of(data), *names_of(data, "test")], key=lambda name: (name.count("10.png"), name))
    assert joined[0] == "train/10/2.png"
    assert data.splits["train"].data.names[:3] == ["train/9/2.png", "train/9/10.png", "train/10/2.png"]


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    write_set(tmp_path / "real")
    root = tmp_path / "linked"
    (root / "train").mkdir(parents=True)
    for name in COLOURS:
        (root / "train" / name).symlink_to(tmp_path / "real" / "train" / name)
    (root / "validation").symlink_to(tmp_path / "real" / "validation")
    (tmp_path / "real" / "train" / "cat" / "circle").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "train" / "dog" / "itself").symlink_to("itself")
    data = open_data(folder_spec(root))
    assert data.inventory.train.images == 18
    assert data.inventory.train.passed_over == {
        "links to a folder that contains them": 1,
        "without an ending, not an image": 1,
    }


def test_names_that_are_not_utf_8_can_be_read_and_printed(tmp_path):
    write_set(tmp_path)
    os.rename(tmp_path / "train" / "cat" / "0.png", os.fsencode(tmp_path) + b"/train/cat/caf\xe9.png")
    data = open_data(folder_spec(tmp_path))
    assert "train/cat/caf\\xe9.png" in data.splits["train"].data.names
    data.inventory.model_dump_json()
    skipped = folder_spec(tmp_path, skip_files=("train/cat/caf\\xe9.png", "train/dog/3.png"))
    kept = open_data(skipped)
    assert kept.inventory.train.images + kept.inventory.validation.images == 18
    assert set(kept.inventory.train.unreadable) == set(skipped.skip_files)
    assert "train/dog/3.png" not in names_of(kept) + names_of(kept, "validation")


@pytest.mark.parametrize("name", ["train/dog/99.png", "dog/3.png", "/train/dog/3.png"])
def test_a_name_to_skip_that_is_of_no_image_is_refused(tmp_path, name):
    write_set(tmp_path)
    with pytest.raises(InvalidInput, match=rf"data\.skip_files: '{name}': 1 of 2 entries are no images of the data set"):
        open_data(folder_spec(tmp_path, skip_files=("train/dog/3.png", name)))


def test_a_single_class_is_refused_by_that_name(tmp_path, tiny_spec):
    write_set(tmp_path)
    for split in ("train", "validation"):
        shutil.rmtree(tmp_path / split / "dog")
    data, recipe = folder_spec(tmp_path), tiny_spec.recipe.model_copy(update={"batch_size": 4})
    assert open_data(data).classes == 1  # which can be looked at
    with pytest.raises(InvalidInput, match=r"data\.root: .*: has images of a single class: there is nothing to learn"):
        Task(tiny_spec.model_copy(update={"data": data, "recipe": recipe})).check()


def test_an_image_that_fails_in_training_is_named_and_no_other_takes_its_place(tmp_path):
    write_set(tmp_path)
    data = open_data(folder_spec(tmp_path))
    (tmp_path / "validation" / "dog" / "1.png").write_bytes(b"")
    for num_workers in (0, 1):
        data._num_workers = num_workers
        with pytest.raises(OSError, match=r"validation/dog/1\.png cannot be read: not an image that Pillow decodes"):
            list(data.evaluation_batches("test", torch.device("cpu")))
