"""`explorer init`: what it writes is ready to run, and what it cannot use is refused in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from explorer import InvalidInput, Rates, SearchSpace, cli
from explorer.cli.data_inspection import DataFiles, inspect_data
from explorer.cli.examples import example_names
from explorer.cli.model_inspection import ModelOnData, inspect_model
from explorer.cli.starter_space import Machine, machine_for, starter_name, starter_space
from explorer.search.checks import check_space
from explorer.spec.applied_augmentation import defaults_for_large_images
from explorer.training.task import Task
from tests.test_cli import assert_refused, explorer  # noqa: F401 (a fixture)


def image_files(root: Path, splits: dict[str, int], side: int = 20) -> Path:
    """Folders of images with two classes: `splits` says how many images each class of a split has."""
    generator = np.random.default_rng(0)
    for split, count in splits.items():
        for label in ("bright", "dark"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    return root


def test_without_options_it_copies_the_digits_example(explorer, tmp_path):  # noqa: F811
    done = explorer("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "next: explorer sweep digits.yaml --dry-run"
    assert (tmp_path / "digits.yaml").read_text() == Path(cli.__file__).parents[2].joinpath(
        "search_spaces/digits.yaml"
    ).read_text()


@pytest.mark.parametrize("name", example_names())
def test_every_example_can_be_copied(explorer, tmp_path, name):  # noqa: F811
    assert explorer("init", "--example", name, cwd=tmp_path).returncode == 0
    assert SearchSpace.load(tmp_path / f"{name}.yaml").name == name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "axes"),
    [
        ("vit_tiny_patch16_224", "digits", {"heads", "mlp", "tokens"}),  # a plain ViT with three heads
        pytest.param("deit3_small_patch16_224", "fractals", {"heads", "mlp", "tokens"}, marks=pytest.mark.nightly),
        pytest.param(
            "pvt_v2_b0", "digits", {"heads", "mlp"}, marks=pytest.mark.nightly
        ),  # a pyramid whose first stage has one head
        pytest.param("swin_tiny_patch4_window7_224", "folder", {"heads", "mlp", "tokens"}, marks=pytest.mark.nightly),
        pytest.param("poolformer_s12", "folder", {"mlp", "tokens"}, marks=pytest.mark.nightly),  # no attention
    ],
)
def test_what_it_writes_passes_every_check_without_an_edit(explorer, tmp_path, model, data, axes):  # noqa: F811
    if data == "folder":
        data = image_files(tmp_path / "my images", {"train": 30, "val": 4}, side=200)
    done = explorer("init", "--model", model, "--data", data, "--gpus", 0, "--out", tmp_path / "my.yaml")
    assert done.returncode == 0, done.stderr
    space = SearchSpace.load(tmp_path / "my.yaml")
    check_space(space)
    assert set(space.search.rates.searched) == axes
    assert space.resources.gpus == 0


@pytest.mark.nightly
def test_a_dry_run_of_what_it_writes_succeeds(explorer, tmp_path):  # noqa: F811
    assert explorer("init", "--data", image_files(tmp_path / "images", {"train": 40, "test": 4}), cwd=tmp_path).returncode == 0
    done = explorer("sweep", "images_vit_tiny_patch16_224.yaml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "full trainings" in done.stdout
    assert not (tmp_path / "sweeps").exists()


def test_rates_are_those_that_a_model_with_few_heads_can_have():
    found = inspect_model("vit_tiny_patch16_224", inspect_data("digits"))
    assert found.smallest.heads == pytest.approx(1 / 3)
    assert found.realised["heads"] == pytest.approx((1 / 3, 2 / 3, 1))
    assert (found.options, found.image_size, found.train_images, found.classes) == ({"patch_size": 2}, 8, 1149, 10)


def test_folders_are_recognized_by_their_usual_names(tmp_path):
    root = image_files(tmp_path, {"Train": 2, "val": 1, "test": 1})
    expected = DataFiles(name="folder", root=str(root), train_split="Train", validation_split="val", test_split="test", side=20)
    assert inspect_data(str(root)) == inspect_data(f"folder:{root}") == expected
    only = image_files(tmp_path / "one split", {"train": 1})
    assert inspect_data(str(only)) == DataFiles(name="folder", root=str(only), train_split="train", test_split=None, side=20)


def test_a_folder_of_class_folders_is_a_single_split(explorer, tmp_path):  # noqa: F811
    """As it comes from many archives: `init` asked for a subfolder `train`."""
    image_files(tmp_path, {"my photos": 40})
    (tmp_path / "my photos" / ".hidden").mkdir()
    folder = tmp_path / "my photos"
    expected = DataFiles(name="folder", root=str(tmp_path), train_split="my photos", test_split=None, side=20)
    assert inspect_data(str(folder)) == expected
    assert explorer("init", "--data", folder, cwd=tmp_path).returncode == 0
    space = SearchSpace.load(tmp_path / "my_photos_vit_tiny_patch16_224.yaml")
    check_space(space)
    task = Task(space.task)
    assert (task.data.classes, task.train_images) == (2, 64)  # of 80; a tenth is set aside twice
    (folder / "val").mkdir()
    with pytest.raises(InvalidInput, match="must contain the subfolder train"):
        inspect_data(str(folder))


def test_images_that_pillow_refuses_do_not_count_for_the_usual_side(tmp_path, monkeypatch, recwarn):
    """Of 400 pixels, where Pillow warns of more than 300 and refuses more than 600."""
    image_files(tmp_path, {"train": 2, "test": 2})
    Image.new("RGB", (40, 40)).save(tmp_path / "train" / "bright" / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert inspect_data(str(tmp_path)).side == 20
    assert not recwarn.list


def test_other_data_sets_are_named_with_their_folder(tmp_path):
    assert inspect_data(f"torch/cifar10:{tmp_path}") == DataFiles(name="torch/cifar10", root=str(tmp_path))
    assert inspect_data("hfds/mnist") == DataFiles(name="hfds/mnist")
    assert inspect_data("my_package.data:Flowers") == DataFiles(name="my_package.data:Flowers")


def test_augmentation_is_written_out(tmp_path):
    """Small images get a gentle one, others timm's for ImageNet; a task with it needs no warning."""
    for size, transform, crop_pct in (
        (32, {"scale": [0.6, 1.0], "hflip": 0.5, "color_jitter": None}, 1),
        (224, {"scale": [0.08, 1.0], "hflip": 0.5, "color_jitter": 0.4}, None),
    ):
        found = ModelOnData(
            model="vit_tiny_patch16_224",
            options={},
            data=DataFiles(name="folder", root=str(tmp_path)),
            image_size=size,
            published_size=224,
            train_images=1000,
            classes=2,
            smallest=Rates(mlp=0.25),
            levels=(0.5, 0.75, 1.0),
            realised={"mlp": (0.5, 0.75, 1.0)},
        )
        (tmp_path / "my.yaml").write_text(starter_space(found, machine_for(0), starter_name(found)))
        task = SearchSpace.load(tmp_path / "my.yaml").task
        assert task.recipe.augmentation.transform == transform
        assert task.data.preprocessing.crop_pct == crop_pct
        assert defaults_for_large_images(transform) == ()


@pytest.mark.parametrize(
    ("images", "classes", "share"),
    [(1_000_000, 1000, 0.0625), (50_000, 10, 0.0625), (5_000, 100, 0.25), (1_100, 100, None), (80, 2, 0.5)],
)
def test_a_proxy_has_the_smallest_share_with_enough_images_and_steps(images, classes, share):
    # With 5,000 images of 100 classes, a quarter has 12.5 of each, and an eighth too few.
    found = ModelOnData(
        model="vit_tiny_patch16_224",
        options={},
        data=DataFiles(name="digits"),
        image_size=32,
        published_size=224,
        train_images=images,
        classes=classes,
        smallest=Rates(mlp=0.25),
        levels=(0.5, 0.75, 1.0),
        realised={"mlp": (0.5, 0.75, 1.0)},
    )
    space = yaml.safe_load(starter_space(found, machine_for(0), "test"))
    assert space.get("proxy") == (share and {"images": share})
    assert (space["search"]["spend"], space["search"]["goal"]) == ("1 training", "25%")


def test_each_trial_gets_its_part_of_the_machine():
    assert (machine_for(0).cpus, machine_for(0).gpus) == (1, 0)
    assert machine_for(1).cpus == os.cpu_count()
    assert machine_for(1000).cpus == 1
    assert [machine_for(gpus).gpus for gpus in (0.25, 1, 4)] == [0.25, 1, 1]


def test_cores_of_a_machine_that_does_not_train_are_said_and_can_be_given(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    assert machine_for(8, None, local_gpus=8) == Machine(cpus=4, gpus=1)  # 4 cores for each GPU, counted where it trains
    assert machine_for(8, 12, local_gpus=0) == Machine(cpus=12, gpus=1)
    elsewhere = machine_for(8, None, local_gpus=2)
    assert elsewhere.cpus == 4
    assert "32 CPU cores and 2 GPUs" in elsewhere.doubt
    assert machine_for(8.0, None, local_gpus=16).doubt == ""
    monkeypatch.setattr(os, "cpu_count", lambda: 31)
    assert machine_for(8, None, local_gpus=8).doubt  # 3 cores for each GPU


def test_init_says_that_the_cores_are_those_of_this_machine(explorer, tmp_path):  # noqa: F811
    data = image_files(tmp_path / "images", {"train": 20, "test": 4})
    done = explorer("init", "--data", data, "--gpus", 1000, "--out", tmp_path / "my.yaml")
    assert done.returncode == 0, done.stderr
    assert "resources.cpus: 1 was counted on this machine" in done.stdout
    text = (tmp_path / "my.yaml").read_text()
    assert "# `cpus` was counted on this machine" in text
    assert "from resources.cpus below, to be changed with it" in text
    done = explorer("init", "--data", data, "--gpus", 1000, "--cpus", 6, "--out", tmp_path / "other.yaml")
    assert "this machine" not in done.stdout
    space = SearchSpace.load(tmp_path / "other.yaml")
    assert (space.resources.cpus, space.task.data.num_workers) == (6, 6)
    assert "this machine," not in (tmp_path / "other.yaml").read_text()


def test_the_text_explains_every_value_in_words_that_fit():
    found = inspect_model("vit_tiny_patch16_224", inspect_data("digits"))
    text = starter_space(found, machine_for(0), starter_name(found))
    assert "name: digits_vit_tiny_patch16_224" in text
    assert "rounded to 0.33, 0.67, 1" in text
    assert max(map(len, text.splitlines())) < 140


def test_what_cannot_be_used_is_refused_in_one_line(explorer, tmp_path):  # noqa: F811
    assert_refused(explorer("init", "--model", "vit_tinny_patch16_224"), "model", "did you mean vit_tiny_patch16_224")
    assert_refused(explorer("init", "--model", "resnet18"), "model", "nothing in it can be resized")
    for option in ("--model", "--data", "--example"):  # as of a shell variable that is not set
        assert_refused(explorer("init", option, "", "--out", tmp_path / "empty.yaml"), f"{option[2:]}: ''")
    assert not (tmp_path / "empty.yaml").exists()
    assert_refused(explorer("init", "--data", "/no/such"), "data", "/no/such", "there is no such folder")
    assert_refused(explorer("init", "--data", "nonsense"), "data", "nonsense", "digits, fractals")
    assert_refused(explorer("init", "--data", "nonsense"), "folder:/path, torch/NAME:/path, wds:/path, hfds/NAME", "tables")
    assert_refused(explorer("init", "--data", f"table:{tmp_path}"), "data", "a table needs more", "the `data` section")
    assert_refused(explorer("init", "--data", "torch/cifar10"), "data", "torch/cifar10:/path/to/folder")
    assert_refused(explorer("init", "--data", tmp_path), "data", "the subfolder train", "it has no subfolder")
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert_refused(explorer("init", "--data", tmp_path), "data", "one subfolder of images per class")
    assert_refused(explorer("init", "--gpus", 1.5), "gpus", "1.5", "whole number")
    assert_refused(explorer("init", "--example", "digit"), "example", "digit", "digits")
    assert_refused(explorer("init", "--example", "digits", "--gpus", 1), "example", "cannot be combined")
    (tmp_path / "my.yaml").write_text("mine")
    assert_refused(explorer("init", "--out", tmp_path / "my.yaml"), "out", "is not overwritten")
    assert_refused(explorer("init", "--data", "digits", "--out", tmp_path / "my.yaml"), "out", "is not overwritten")
    assert (tmp_path / "my.yaml").read_text() == "mine"
