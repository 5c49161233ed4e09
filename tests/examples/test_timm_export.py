"""The launcher of timm's train.py hands the finished model over."""

import json
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from tests.examples.test_timm_train import MODEL, OPTIONS, REPLACED, SCRIPT, exit_code_of_launcher, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # timm's own warnings


@pytest.fixture
def launch(monkeypatch, tmp_path, three_stages, image_folder, capsys):
    schedule = three_stages.save(tmp_path / "schedule.json")
    originals = [(module, name, getattr(module, name)) for module, name in REPLACED]

    def run(experiment, launcher=(), script=()):
        for module, name, original in originals:
            monkeypatch.setattr(module, name, original)  # and put back at the end of the test
        options = ["--schedule", schedule, "--budget", "50%", "--export", tmp_path / "m", *launcher]
        model = ["--model-kwargs", *(f"{name}={value}" for name, value in MODEL.items())]
        folders = ["--data-dir", image_folder, "--output", tmp_path, "--experiment", experiment]
        words = ["timm_train", *options, SCRIPT, *OPTIONS.split(), *model, *folders, "--epochs", "4", *script]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        return exit_code_of_launcher(), *capsys.readouterr()

    return run


@torch.no_grad()
def right(folder, images):
    """How many images plain timm classifies correctly, prepared as the folder says."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform, names = create_transform(**resolve_model_data_config(model)), model.pretrained_cfg["label_names"]
    files = sorted((images / "validation").glob("*/*.png"))
    outputs = model(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    return sum(names[number] == file.parent.name for number, file in zip(outputs.argmax(1), files, strict=True)), len(files)


def test_the_finished_model_is_measured_with_the_scripts_evaluation_images(launch, tmp_path, image_folder):
    code, printed, _ = launch("straight")
    assert code == 0
    correct, images = right(tmp_path / "m", image_folder)
    assert images == 12
    assert printed.splitlines()[-1] == f"model: {tmp_path / 'm'}, accuracy {correct / 12:.3%}: {correct} of 12 images"
    last = max(
        (tmp_path / "straight").glob("checkpoint-*.pth.tar"), key=lambda path: int(path.name.split("-")[1].split(".")[0])
    )
    again = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights(last).items())
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["label_names"] == ["bright", "dark"]
    assert (config["pretrained_cfg"]["input_size"], config["pretrained_cfg"]["crop_pct"]) == ([3, 16, 16], 0.9)
    text = (tmp_path / "m" / "README.md").read_text()
    assert f"| validation | 12 | {correct / 12:.2%} |" in text
    assert f"Data set: {image_folder.name}." in text
    assert "assumed" not in text

    # The checkpoint of a finished training is handed over by the same command with --resume.
    weights_before = (tmp_path / "m" / "model.safetensors").read_bytes()
    (tmp_path / "m" / "README.md").write_text(text.replace("validation", "unknown"))
    code, printed, _ = launch("afterwards", script=["--resume", last])
    assert (code, printed.count("model: ")) == (0, 1)
    assert json.loads((tmp_path / "afterwards" / "seen.json").read_text()) == []
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == weights_before
    assert (tmp_path / "m" / "README.md").read_text() == text


def test_a_script_that_ends_early_hands_nothing_over_until_it_is_resumed(launch, tmp_path, image_folder):
    stopped, *_ = launch("stopped", script=["--recovery-interval", "1", "--stop-after", "3"])
    assert "resume it with --resume" in stopped
    assert not (tmp_path / "m").exists()
    latest = max((tmp_path / "stopped").glob("recovery-*.pth.tar"), key=lambda path: path.stat().st_mtime_ns)
    assert launch("resumed", script=["--resume", latest])[0] == 0
    assert "ended early" not in (tmp_path / "m" / "README.md").read_text()
    assert right(tmp_path / "m", image_folder)[1] == 12


def test_what_cannot_be_handed_over_is_said_before_training(launch, tmp_path):
    def refused(*words, **options):
        code, _, errors = launch("refused", **options)
        assert code == 2
        assert all(word in errors for word in words), errors
        assert len(errors.strip().splitlines()) == 1
        assert not (tmp_path / "refused" / "seen.json").exists()

    refused("timm_train: class_names: '2 names': must be the names of the 3 outputs", script=["--num-classes", "3"])
    (tmp_path / "names.txt").write_text("light\nnight\nfog\n")
    refused("class_names: '3 names': must be", launcher=["--class-names", tmp_path / "names.txt"])
    refused("--class-names: ", "must be a text file", launcher=["--class-names", tmp_path / "none.txt"])
    (tmp_path / "m").mkdir()
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / "m" / "photo.png")
    refused("timm_train: folder: ", "holds other files")


def test_names_of_classes_may_be_given(launch, tmp_path):
    (tmp_path / "names.txt").write_text("light\nnight\n")
    assert launch("named", launcher=["--class-names", tmp_path / "names.txt"])[0] == 0
    assert json.loads((tmp_path / "m" / "config.json").read_text())["label_names"] == ["light", "night"]
