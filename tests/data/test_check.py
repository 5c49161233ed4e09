"""The check that reads every image before training."""

import gzip
import json
import pickle

import numpy as np
import pytest
import yaml
from PIL import Image

from explorer import InvalidInput
from explorer.data import image_facts, registry
from explorer.data.check import check_data
from explorer.data.decoding import SIXTEEN_BIT
from explorer.errors import UnreadableImageError
from explorer.spec import DataSpec, SearchSpace
from explorer.sweep.driver import Sweep
from explorer.training.task import Task
from tests.conftest import TINY_SPACE, quiet
from tests.data.conftest import folder_spec
from tests.data.test_folder import write, write_set


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is remembered from other tests, and changed folders are listed again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry._open.cache_clear()
    return tmp_path / "cache" / "vit-budget-explorer" / "checks"


@pytest.fixture
def damaged(tmp_path):
    """20 training images, of which three cannot be read, and 4 test images, of which one cannot."""
    root = tmp_path / "images"
    write_set(root, ending=".jpg")
    cat = root / "train" / "cat"
    Image.linear_gradient("L").save(cat / "0.jpg")
    (cat / "0.jpg").write_bytes((cat / "0.jpg").read_bytes()[:-200])
    (cat / "1.jpg").write_bytes(b"")
    (root / "train" / "dog" / "2.jpg").write_text("<html>404 Not Found</html>")
    (root / "validation" / "dog" / "0.jpg").unlink()
    (root / "validation" / "dog" / "0.jpg").symlink_to(root / "gone.jpg")
    return root


BROKEN = ("train/cat/0.jpg", "train/cat/1.jpg", "train/dog/2.jpg", "validation/dog/0.jpg")


def test_unreadable_images_are_refused_with_their_paths_and_reasons(damaged):
    with pytest.raises(InvalidInput) as caught:
        check_data(folder_spec(damaged))
    message = str(caught.value)
    assert message.startswith("data.unreadable: 'error': 4 of 24 images cannot be read: ")
    assert message.count(".jpg (") == 3
    for reason in (
        "image file is truncated",
        "the file is empty",
        "; and 1 more. Repair or remove them, or set data.unreadable",
    ):
        assert reason in message


def test_unreadable_images_are_left_out_of_every_count(damaged, cache):
    checked = check_data(folder_spec(damaged, unreadable="skip"))
    inventory = checked.inventory
    assert set(checked.spec.skip_files) == set(BROKEN)
    assert set(inventory.train.unreadable) == set(BROKEN[:3])
    assert inventory.test.unreadable == BROKEN[3:]
    # 17 of 20 are left; a tenth of them, rounded up, is set aside.
    assert (inventory.train.images, inventory.validation.images, inventory.test.images) == (15, 2, 3)
    assert inventory.test.per_class == (2, 1)
    assert inventory.checked
    assert "train: 3 images left out as unreadable or by data.skip_files" in "\n".join(inventory.warnings)
    # A sample knows of the images that were found before.
    assert check_data(folder_spec(damaged, unreadable="skip"), sample=1).inventory == inventory
    trained = registry.open_data(checked.spec)
    assert trained.train_images == 15
    assert not set(BROKEN) & {name for split in trained.splits.values() for name in split.image_names}


def test_a_class_without_a_readable_training_image_is_refused(tmp_path):
    write_set(tmp_path)
    for path in (tmp_path / "train" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"cat"):
        check_data(folder_spec(tmp_path, unreadable="skip"))


def test_the_inventory_says_what_was_found_in_the_images(tmp_path):
    root = tmp_path / "images"
    write_set(root)
    Image.fromarray(np.full((4, 6), 4095, np.uint16)).save(root / "train" / "cat" / "12bit.png")
    write(root / "validation" / "cat" / "copy.png", (221, 21, 21))
    write(root / "train" / "cat" / "original.png", (221, 21, 21))
    inventory = check_data(folder_spec(root, validation_split=None)).inventory
    train, held_out = inventory.train, inventory.validation
    assert sum(split.modes.get("I;16", 0) for split in (train, held_out)) == 1
    assert sum(split.sizes.get("6x4", 0) for split in (train, held_out)) == 1
    remarks = {**train.remarks, **held_out.remarks}
    assert remarks == {f"{SIXTEEN_BIT}: no value exceeds 4095 of 65535, so they become dark": 1}
    assert sum(count for pair, count in inventory.overlaps.items() if pair.endswith("and test")) == 1
    assert (train.opened, inventory.checked) == (train.images, True)
    lines = inventory.summary
    assert lines[0] == f"data: folder in {root}, 2 classes: cat, dog"
    assert lines[3] == "  test        5 images (validation), 2 to 3 per class, RGB, 4x4"


def test_what_was_read_is_remembered_until_a_file_changes(tmp_path, cache, monkeypatch):
    root = tmp_path / "images"
    write_set(root)
    read = []
    examine = image_facts.examine
    monkeypatch.setattr(image_facts, "examine", lambda image, spec: read.append(image.number) or examine(image, spec))
    first = check_data(folder_spec(root)).inventory
    assert len(read) == 24
    assert check_data(folder_spec(root)).inventory == first
    assert len(read) == 24
    write(root / "train" / "cat" / "0.png", (1, 2, 3))
    changed = check_data(folder_spec(root)).inventory
    assert len(read) == 25
    assert (changed.train.content, changed.validation.content) != (first.train.content, first.validation.content)
    (file,) = cache.iterdir()
    for damage in (
        b"",
        b"not gzip",
        file.read_bytes()[:50],
        gzip.compress(b"[1]"),
        gzip.compress(json.dumps({"a": [1]}).encode()),
    ):
        file.write_bytes(damage)
        read.clear()
        assert check_data(folder_spec(root)).inventory == changed
        assert len(read) == 24


def test_a_file_that_is_completed_while_it_is_checked_is_read_again(tmp_path, monkeypatch):
    """As one that is still being copied: it is truncated when it is read, and complete before that is remembered."""
    root = tmp_path / "images"
    write_set(root)
    path = root / "train" / "cat" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    examine = image_facts.examine

    def examine_and_complete(image, spec):
        facts = examine(image, spec)
        if facts.error:
            path.write_bytes(whole)
        return facts

    monkeypatch.setattr(image_facts, "examine", examine_and_complete)
    with pytest.raises(InvalidInput, match=r"1 of 24 images cannot be read: train/cat/3\.png"):
        check_data(folder_spec(root))
    assert check_data(folder_spec(root)).inventory.checked


def test_images_that_are_added_in_the_life_of_a_process_are_seen(tmp_path):
    """As in a notebook: the second check, and what trains after it, have the images of that time."""
    write_set(tmp_path, 10)
    spec = folder_spec(tmp_path)
    assert check_data(spec).inventory.train.images == 18
    write_set(tmp_path, 30)
    assert check_data(spec).inventory.train.images == 54
    assert registry.open_data(spec) is registry.open_data(spec)
    assert registry.open_data(spec).train_images == 54


def test_a_sweep_opens_its_data_anew(tmp_path):
    write_set(tmp_path / "images", 20)
    content = yaml.safe_load(TINY_SPACE) | {"data": {"name": "folder", "root": str(tmp_path / "images"), "image_size": 8}}
    space = SearchSpace.model_validate(content)
    assert Task(space.task).data.train_images == 36
    write_set(tmp_path / "images", 40)
    sweep = Sweep(space, tmp_path / "sweeps", console=quiet())
    assert Task(space.task).data.train_images == 72
    assert sweep.checked_data.inventory.train.images == 72


def test_a_sample_is_said_to_be_one(tmp_path):
    write_set(tmp_path / "images", 50)
    inventory = check_data(folder_spec(tmp_path / "images"), sample=10).inventory
    assert (inventory.train.images, inventory.train.opened, inventory.checked) == (90, 10, False)
    assert inventory.train.content == ""
    assert inventory.summary[1].endswith("10 images opened")
    assert inventory.train.listing


def test_images_in_memory_have_nothing_to_read():
    checked = check_data(DataSpec(name="digits"))
    assert (checked.inventory.source, checked.inventory.checked, checked.inventory.overlaps) == ("digits", True, {})


def test_many_images_are_read_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(image_facts, "MIN_FOR_PROCESSES", 8)
    write_set(tmp_path / "images")
    assert check_data(folder_spec(tmp_path / "images")).inventory.checked


def test_an_error_of_a_loader_process_is_one_line():
    """torch hands on the traceback of its process as the message."""
    told = "Caught UnreadableImageError in DataLoader worker process 0.\nOriginal Traceback:\n  ...\n"
    error = UnreadableImageError(
        f"{told}explorer.errors.UnreadableImageError: train/a.jpg cannot be read: Truncated File Read\n"
    )
    assert str(error) == "train/a.jpg cannot be read: Truncated File Read"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("source", ["tar", "mnist"])
def test_other_sources_are_checked_alike(source, request):
    if source == "tar":
        spec = folder_spec(request.getfixturevalue("tar_shards"), name="wds")
    else:
        spec = folder_spec(request.getfixturevalue("mnist"), name="torch/mnist", image_size=28)
    inventory = check_data(spec).inventory
    assert inventory.checked
    assert inventory.train.modes == {"RGB" if source == "tar" else "L": inventory.train.images}
