"""The folder that a training hands over: plain timm opens it offline, and its card says what was trained."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import timm
import torch
from huggingface_hub import ModelCard

from explorer import Budget, compile_plan
from explorer.production.model_card import escaped
from explorer.production.model_folder import MODEL
from explorer.production.result import RESULT, RunResult
from explorer.production.run import CHECKPOINT, WEIGHTS, Run, train_to_folder
from explorer.spec.binomial import accuracy_interval
from explorer.spec.schedule import Schedule
from explorer.training.task import Task
from tests.conftest import quiet
from tests.production.finished_runs import TAG, measured_provenance
from tests.training.runs import planned

OFFLINE = """
import socket, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "explorer":
            raise ImportError("timm alone must open the folder")
sys.meta_path.insert(0, Blocked())
def refuse(*_):
    raise OSError("no network")
socket.socket.connect = refuse
import timm, torch
for folder in sys.argv[1:]:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.load(f"{folder}/../images.pt")
    with torch.inference_mode():
        torch.save((model(images), model.pretrained_cfg), f"{folder}/../opened.pt")
"""


@pytest.mark.slow
def test_plain_timm_opens_the_folder_offline_with_equal_outputs(digits_run, folder_run):
    runs = {digits_run: [str(number) for number in range(10)], folder_run: [TAG, "bright"]}
    for run in runs:
        inputs = RunResult.load(run).model_input
        torch.save(torch.randn(3, inputs.channels, inputs.image_size, inputs.image_size), run / "images.pt")
    command = [sys.executable, "-c", OFFLINE, *(str(run / MODEL) for run in runs)]
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for run, names in runs.items():
        result = RunResult.load(run)
        model = timm.create_model(**result.timm_create_model, checkpoint_path=str(run / WEIGHTS)).eval()
        with torch.inference_mode():
            expected = model(torch.load(run / "images.pt"))
        opened, configuration = torch.load(run / "opened.pt")
        assert torch.equal(opened, expected)
        assert list(configuration["label_names"]) == names
        assert configuration["num_classes"] == len(names)
    assert (list(configuration["input_size"]), configuration["crop_pct"]) == ([3, 8, 8], 0.8)
    assert [list(configuration[name]) for name in ("mean", "std")] == [[0.4, 0.5, 0.6], [0.2, 0.3, 0.4]]
    assert (configuration["interpolation"], configuration["crop_mode"]) == ("bilinear", "center")
    for of_other_weights in ("tag", "license", "url", "hf_hub_id"):
        assert configuration.get(of_other_weights) is None


def test_the_card_says_what_was_trained_and_measured(digits_run):
    result, card = RunResult.load(digits_run), ModelCard.load(digits_run / MODEL / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("timm", "image-classification")
    (evaluation,) = card.data.eval_results
    assert (evaluation.metric_type, evaluation.dataset_split, evaluation.dataset_name) == ("accuracy", "test", "digits")
    assert evaluation.metric_value == result.test  # exactly: text has all digits
    assert evaluation.dataset_args == {"images": 360, "listing": result.inventory.test.listing}
    assert evaluation.metric_args == {"device": "cpu", "precision": "float32", "backend": "pil", "threads": 1}
    low, high = accuracy_interval(result.test, 360)
    assert f"| test | 360 | {result.test:.2%} | {low:.2%} to {high:.2%} |" in card.text
    assert f"| planned | {result.planned_flops:.6g} | " in card.text
    assert f"| executed | {result.realised_flops:.6g} | {result.cost:.3%} |" in card.text
    assert f"| train | train | 1,149 | `{result.inventory.train.listing}` |" in card.text
    assert "| 1 | 0.5 | 0.5 | 0.5 | 1 | " in card.text
    assert "seed: 0\ninitialization: random\n" in card.text
    assert "learning_rate: 0.002\n" in card.text
    assert f"timm {timm.__version__}" in card.text
    assert "Nothing was predicted: the schedule's file contains no measurement." in card.text
    assert "This is one run with one seed." in card.text
    assert str(digits_run.parent) not in card.text  # paths of this machine are nobody's business


def test_the_card_of_a_folder_escapes_the_names_of_classes(folder_run):
    text = (folder_run / MODEL / "README.md").read_text()
    assert "Classes: &lt;img src=x onerror=alert(1)&gt;, bright." in text
    assert "<img" not in text
    assert "Preprocessing: mean \\[0.4, 0.5, 0.6\\], std \\[0.2, 0.3, 0.4\\], interpolation bilinear, crop_pct 0.8" in text
    assert "folder images" in text
    assert str(folder_run.parent) not in text


def test_text_with_markup_is_shown_as_it_is():
    assert escaped("a|b\n# *c* `d` [e](f) <g> \x1b[0m") == "a\\|b # \\*c\\* \\`d\\` \\[e\\](f) &lt;g&gt; \\[0m"


def test_the_card_has_the_expectation_of_the_sweep(three_stages, tiny_task, tmp_path):
    spec = tiny_task.spec
    provenance = measured_provenance(spec, sweep="a|b", budget="5%")
    schedule = three_stages.model_copy(update={"provenance": provenance})
    plan = planned(tiny_task, schedule, "5%")
    run = Run(task=spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path, schedule=schedule)
    train_to_folder(run, quiet())
    expected = "By the sweep a\\|b: measured test accuracy 48.00%, for a single run 40.00% to 56.00% (95 %, 3 seeds)."
    assert expected in (tmp_path / MODEL / "README.md").read_text()
    unknown = replace(run, schedule=None)
    train_to_folder(unknown, quiet())
    assert "What to expect of the schedule is not known." in (tmp_path / MODEL / "README.md").read_text()


def test_the_card_of_a_training_in_seconds_says_what_is_counted(three_stages, tiny_task, tmp_path):
    """It said "at a budget of 5%", and 20 % of full training below, which are FLOPs. Every step takes .1 s here."""

    def cost(rates):
        return replace(tiny_task.step_cost(rates), seconds=0.1)

    steps = tiny_task.epochs * tiny_task.train_images / tiny_task.batch_size
    plan = compile_plan(three_stages, tiny_task, Budget(0.05), cost, currency="device_seconds")
    train_to_folder(Run(task=tiny_task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path), quiet())
    text = (tmp_path / MODEL / "README.md").read_text()
    assert "at a budget of 5% of full training's device-seconds" in text
    assert "|  | FLOPs | share of full training's FLOPs |" in text
    seconds = f"{0.1 * plan.steps:.6g} were planned, {plan.steps / steps:.3%} of full training's {0.1 * steps:.6g}."
    assert f"The budget counts device-seconds: {seconds}" in text


def test_the_interval_is_that_of_the_number_of_images():
    """By hand: (48 + 2) / (96 + 4) = .5, so the error is sqrt(.25 / 100) = .05, and half of the interval .098."""
    assert accuracy_interval(0.5, 96) == pytest.approx((0.402, 0.598), abs=1e-4)
    low, high = accuracy_interval(1.0, 12)  # 14 / 16 = .875: sqrt(.875 * .125 / 16) = .0827
    assert (low, high) == pytest.approx((1 - 1.96 * 0.0827, 1.0), abs=1e-3)


@pytest.mark.parametrize("notes", [False, True])
def test_a_model_of_an_earlier_run_does_not_stay_where_none_is_handed_over(tiny_task, tmp_path, monkeypatch, notes):
    """Runs of a model that timm opens, and of one that is not built in timm's way."""
    plan = planned(tiny_task, Schedule.full_model(), "2%")
    run = Run(task=tiny_task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path)
    train_to_folder(run, quiet())
    assert {path.name for path in (tmp_path / MODEL).iterdir()} == {"config.json", "model.safetensors", "README.md"}
    if notes:
        (tmp_path / MODEL / "notes.txt").write_text("mine")
    for name in (CHECKPOINT, RESULT):
        (tmp_path / name).unlink()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_model.py").write_text(
        "from timm.models.vision_transformer import VisionTransformer\n"
        "def build(**arguments):\n"
        "    return VisionTransformer(patch_size=2, embed_dim=32, depth=2, num_heads=4, **arguments)\n"
    )
    model = tiny_task.spec.model.model_copy(update={"name": "their_model:build", "options": {}})
    spec = tiny_task.spec.model_copy(update={"model": model})
    console = quiet()
    train_to_folder(replace(run, task=spec, plan=planned(Task(spec), Schedule.full_model(), "2%")), console)
    said = " ".join(console.file.getvalue().split())
    assert "plain timm cannot build their_model:build" in said
    assert f"{MODEL}/ in {tmp_path} was that of an earlier run: its files are removed" in said
    left = [path.name for path in (tmp_path / MODEL).iterdir()] if notes else (tmp_path / MODEL).exists()
    assert left == (["notes.txt"] if notes else False)


def test_a_model_that_timm_cannot_build_is_not_handed_over_in_its_format(tiny_spec, tmp_path):
    pytest.importorskip("transformers", minversion="5.0")
    options = {"patch_size": 2, "embed_dim": 16, "depths": [1], "num_heads": [2], "window_size": 2}
    model = tiny_spec.model.model_copy(update={"name": "transformers:SwinForImageClassification", "options": options})
    task = Task(tiny_spec.model_copy(update={"model": model}))
    plan = planned(task, Schedule.full_model(), "2%")
    console = quiet()
    train_to_folder(Run(task=task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path), console)
    said = " ".join(console.file.getvalue().split())
    assert (
        "model/ will not be written: plain timm cannot build transformers:SwinForImageClassification; its weights will" in said
    )
    assert (tmp_path / WEIGHTS).exists()
    assert not (tmp_path / MODEL).exists()
    assert "earlier run" not in said
