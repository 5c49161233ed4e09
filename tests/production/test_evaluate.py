"""`explorer evaluate` repeats an accuracy from the model's folder alone, and trusts nothing in it."""

import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from explorer.production.model_folder import MODEL, ModelFolder
from explorer.production.repeated_evaluation import data_for, repeat_evaluation
from explorer.production.result import RunResult
from explorer.spec.data import DataSpec
from tests.production.finished_runs import TAG
from tests.test_cli import assert_refused

DIGITS = DataSpec(name="digits")


class WritesAFile:
    """A pickle of it writes a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


@pytest.fixture
def folder(digits_run, tmp_path) -> Path:
    """A copy of the model's folder, alone."""
    return shutil.copytree(digits_run / MODEL, tmp_path / "received")


def change(folder, **changes):
    """Change `config.json`; `a__b` is a key within a key."""
    content = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        *above, last = name.split("__")
        inner = content
        for key in above:
            inner = inner[key]
        inner[last] = value
    (folder / "config.json").write_text(json.dumps(content))


def evaluated(folder, data=DIGITS):
    opened = ModelFolder(folder)
    return repeat_evaluation(opened, data_for(opened, data))


@pytest.mark.parametrize("named", ["task", "data"])
def test_the_accuracy_of_the_result_is_repeated_exactly(explorer, digits_run, folder, named):
    result = RunResult.load(digits_run)
    assert 0.1 < result.test < 1  # neither all nor chance
    where = digits_run.parent / "task.yaml" if named == "task" else "digits"
    done = explorer("evaluate", folder, f"--{named}", where)
    assert done.returncode == 0, done.stderr
    *_, accuracy, agreement = done.stdout.splitlines()
    correct = round(360 * result.test)
    assert accuracy.startswith(f"test accuracy {result.test:.4%}, 95 % interval ")
    assert accuracy.endswith(f": {correct} of 360 images, on the CPU in float32")
    assert agreement == "agrees exactly with the model card"
    assert evaluated(folder).measured.value == result.test


def test_images_in_folders_are_prepared_as_the_folder_of_the_model_says(explorer, folder_run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = explorer("evaluate", folder_run / MODEL, "--data", f"folder:{folder_run.parent / 'images'}")
    assert done.returncode == 0, done.stderr
    *_, accuracy, agreement = done.stdout.splitlines()
    assert accuracy.startswith(f"test accuracy {RunResult.load(folder_run).test:.4%}, ")
    assert " of 12 images" in accuracy
    assert agreement == "agrees exactly with the model card"
    task = yaml.safe_load((folder_run.parent / "task.yaml").read_text())
    data = data_for(ModelFolder(folder_run / MODEL), DataSpec(name="folder", root="x", image_size=99))
    assert data.image_size == 8
    assert data.preprocessing.model_dump(mode="json") == {**task["data"]["preprocessing"], "crop_mode": "center"}


def test_another_accuracy_or_other_images_are_said(digits_run, folder, tmp_path):
    stated = evaluated(folder).stated
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "head.bias": weights["head.bias"] + torch.eye(10)[3] * 100}, folder / "model.safetensors")
    again = evaluated(folder)  # every image is a 3, as 37 of 360 are
    assert (again.measured.correct, again.measured.images) == (37, 360)
    assert again.lines[-1] == (
        f"DIFFERS from the model card: {stated.value:.4%}, {stated.correct} of 360 images, on the CPU in float32"
    )
    card = folder / "README.md"
    card.write_text(card.read_text().replace(stated.listing, "f" * 64))
    assert evaluated(folder).lines[-1].startswith(f"not comparable with the model card ({stated.value:.4%}, ")
    card.unlink()
    assert evaluated(folder).lines[-1].startswith("nothing to compare with: README.md states no test accuracy")


def test_classes_in_another_order_are_matched_by_name(digits_run, folder):
    """The model with the rows of its head, and the names of its classes, in reverse order is the same classifier."""
    assert not evaluated(folder).reordered
    weights = load_file(folder / "model.safetensors")
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors")
    change(folder, label_names=[str(number) for number in reversed(range(10))])
    again = evaluated(folder)
    assert again.measured.value == RunResult.load(digits_run).test
    assert "the data numbers the classes in another order than the model: labels were matched by name" in again.lines


def test_data_with_other_classes_or_channels_are_refused(explorer, folder, folder_run, tmp_path):
    change(folder, label_names=["zero", *map(str, range(1, 10))])
    refused = explorer("evaluate", folder, "--data", "digits")
    assert_refused(refused, "must have the 10 classes of the model: the model has no '0'")
    images = f"folder:{folder_run.parent / 'images'}"
    assert_refused(explorer("evaluate", folder, "--data", images), "has images of 3 channels, and the model takes 1")
    (tmp_path / "empty" / "train" / "a").mkdir(parents=True)
    refused = explorer("evaluate", folder, "--data", f"folder:{tmp_path / 'empty'}")
    assert_refused(refused, "has no images in class folders")
    assert_refused(explorer("evaluate", folder), "give either --data or --task")


def test_missing_and_damaged_files_are_refused_in_one_line(explorer, digits_run, folder, tmp_path):
    def refused(*words):
        assert_refused(explorer("evaluate", folder, "--data", "digits"), *words)

    weights, config, card = (folder / name for name in ("model.safetensors", "config.json", "README.md"))
    whole = {path: path.read_bytes() for path in (weights, config, card)}
    weights.write_bytes(whole[weights][:1000])
    refused(str(weights), "must be a safetensors file")
    weights.write_bytes(whole[weights])
    config.write_bytes(whole[config][:100])
    refused(str(config), "must be JSON")
    config.write_bytes(whole[config])
    for key, value, words in (
        ("label_names", ["a"], "must be the names of the 10 classes"),
        ("pretrained_cfg__input_size", [1, 8, 9], "must be channels, and a square"),
        ("pretrained_cfg__input_size", [1, 16, 16], "cannot process images of 16 pixels"),
        ("model_args__num_classes", 11, "must be 10, as in the rest of the file"),
        ("model_args__head_width", 3, "timm refuses to build vit_tiny_patch16_224"),
        ("pretrained_cfg", None, "pretrained_cfg"),
    ):
        change(folder, **{key: value})
        refused(str(config), words)
        config.write_bytes(whole[config])
    card.write_text("---\nmodel-index: 3\n---\n")
    refused(str(card), "must be a model card")
    card.write_bytes(whole[card].replace(b"images: 360", b"images: many"))
    refused(str(card), "images", "many")
    card.write_bytes(whole[card])
    config.unlink()
    refused(str(folder), "has no config.json")
    assert_refused(explorer("evaluate", digits_run, "--data", "digits"), f"did you mean {digits_run / MODEL}?")
    assert_refused(explorer("evaluate", tmp_path / "none", "--data", "digits"), "there is no such folder")


def test_weights_of_another_architecture_name_the_first_tensor_that_differs(explorer, folder):
    change(folder, model_args__embed_dim=48)
    refused = explorer("evaluate", folder, "--data", "digits")
    assert_refused(refused, "tensor: 'cls_token'", "has shape (1, 1, 32) in the file, and has shape (1, 1, 48) in vit_tiny")
    change(folder, model_args__embed_dim=32, model_args__depth=3)
    refused = explorer("evaluate", folder, "--data", "digits")
    assert_refused(refused, "'blocks.2.norm1.weight'", "is missing in the file, and has shape (32,)")
    change(folder, model_args__depth=1)
    refused = explorer("evaluate", folder, "--data", "digits")
    assert_refused(refused, "'blocks.1.", "in the file, and is missing in vit_tiny_patch16_224")


def test_nothing_in_a_hostile_folder_is_executed(explorer, folder, tmp_path, monkeypatch):
    marker = tmp_path / "executed"
    (tmp_path / "hostile_module.py").write_text(f"open({str(marker)!r}, 'w').close()\nthing = print\n")
    monkeypatch.syspath_prepend(tmp_path)

    def refused(*words):
        assert_refused(explorer("evaluate", folder, "--data", "digits"), *words)
        assert not marker.exists()
        assert "hostile_module" not in sys.modules

    whole = (folder / "config.json").read_bytes()
    for architecture in (
        "hostile_module:thing",
        "hostile_module.thing",
        "../hostile_module",
        "hf-hub:a/b",
        f"local-dir:{folder}",
    ):
        change(folder, architecture=architecture)
        refused("architecture", architecture[:20], "has no such model, and nothing else is built")
    (folder / "config.json").write_bytes(whole)
    for name, value in (
        ("checkpoint_path", str(folder / "model.bin")),
        ("pretrained", True),
        ("pretrained_cfg", {"file": str(folder / "model.bin")}),
        ("features_only", True),
        ("\x1b[31m", 1),
    ):
        change(folder, **{f"model_args__{name}": value})
        refused("model_args", "is no argument of an architecture")
        (folder / "config.json").write_bytes(whole)
    change(folder, model_args__norm_layer="hostile_module:thing")
    refused("model_args", "timm refuses to build")
    (folder / "config.json").write_bytes(whole)

    card = (folder / "README.md").read_text()
    attack = re.sub("name: digits", "name: !!python/object/apply:hostile_module.thing [a]", card)
    (folder / "README.md").write_text(attack)
    refused("README.md", "must be a model card")
    (folder / "README.md").write_text(card)

    (folder / "model.bin").write_bytes(pickle.dumps(WritesAFile(marker)))
    shutil.copy(folder / "model.bin", folder / "pytorch_model.bin")
    change(folder, pretrained_cfg__file=str(folder / "model.bin"), pretrained_cfg__url="http://localhost:1/x.pth")
    done = explorer("evaluate", folder, "--data", "digits")
    assert (done.returncode, marker.exists()) == (0, False), done.stderr  # beside the weights, a pickle is not read
    (folder / "model.safetensors").unlink()
    refused("model.safetensors", "model.bin is not read: only safetensors cannot contain code")
    shutil.copy(folder / "model.bin", folder / "model.safetensors")
    refused("model.safetensors", "must be a safetensors file")


def test_names_of_classes_are_text(explorer, folder_run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    received = shutil.copytree(folder_run / MODEL, tmp_path / "received")
    change(received, label_names=["[bold]\x1b[31m{{7*7}}", TAG])
    refused = explorer("evaluate", received, "--data", f"folder:{folder_run.parent / 'images'}")
    assert_refused(refused, "the model has no 'bright'")
    assert "\x1b" not in refused.stderr
