"""The recipes of docs/howto/export.md, run with a finished training."""

import shutil

import pytest
import timm
import torch
from PIL import Image

from explorer.spec.task_file import TaskFile
from explorer.training.task import Task
from tests.docs.blocks import blocks
from tests.production.finished_runs import TAG

PAGE = "docs/howto/export.md"


@pytest.fixture
def in_place(folder_run, tmp_path, monkeypatch):
    """A folder in which the run is where the page has it."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(folder_run, tmp_path / "runs" / "production")
    monkeypatch.chdir(tmp_path)
    return folder_run


def recipe(word):
    """The code of the page's block that has a word in it."""
    (block,) = [block for block in blocks(PAGE) if block.language == "python" and word in block.text]
    return block.code


def test_timm_names_the_class_of_an_image_as_the_page_has_it(in_place, capsys):
    photo = in_place.parent / "images" / "validation" / TAG / "000.png"
    shutil.copy(photo, "photo.jpg")
    namespace = {}
    exec(recipe("photo.jpg"), namespace)
    assert capsys.readouterr().out.strip() == TAG
    task = Task(TaskFile.load_task(in_place.parent / "task.yaml").task)
    evaluated = next(task.data.evaluation_batches("test", torch.device("cpu")))[0][0]
    assert torch.equal(namespace["transform"](Image.open(photo).convert("RGB")), evaluated)


@pytest.mark.slow
def test_an_exported_program_has_the_outputs_of_the_model(in_place):
    exec(recipe("torch.export.save"), {})
    model = timm.create_model("local-dir:runs/production/model", pretrained=True).eval()
    images = torch.randn(5, 3, 8, 8)  # another number of images than the example
    with torch.inference_mode():
        exported = torch.export.load("model.pt2").module()(images)
        assert torch.allclose(exported, model(images), atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of packages that are not among those of the tests
def test_onnx_has_the_outputs_of_the_model(in_place):
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    exec(recipe("torch.onnx.export"), {})
    model = timm.create_model("local-dir:runs/production/model", pretrained=True).eval()
    images = torch.randn(5, 3, 8, 8)
    (scores,) = reference.ReferenceEvaluator("model.onnx").run(None, {"images": images.numpy()})
    with torch.inference_mode():
        assert torch.allclose(torch.tensor(scores), model(images), atol=1e-5)
