"""The example of a model that is registered with timm in a module: it passes the checks, and a task imports it."""

import sys
from pathlib import Path

import pytest
import timm

from explorer.elastic.layouts import LAYOUTS
from explorer.elastic.testing import CHECKS, check_model
from explorer.errors import validated
from explorer.production.model_folder import CARD, MODEL
from explorer.production.run import WEIGHTS, Run, train_to_folder
from explorer.spec.task import TaskSpec
from explorer.training.task import Task
from tests.conftest import quiet
from tests.training.runs import planned, same_weights

EXTENDING = Path(__file__).parents[2] / "examples" / "extending"


@pytest.fixture
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENDING))
    yield
    for kind in [kind for kind in LAYOUTS if kind.__module__ == "my_models"]:
        del LAYOUTS[kind]
    sys.modules.pop("my_models", None)


@pytest.mark.usefixtures("_importable")
def test_the_example_passes_the_checks_and_trains(tiny_spec, three_stages, tmp_path):
    model = {"name": "my_vit", "options": {"patch_size": 2, "embed_dim": 32, "depth": 2}}
    task = Task(validated(TaskSpec, {**tiny_spec.model_dump(), "import": ["my_models"], "model": model}, "task"))
    task.check()
    assert task.warnings == ()
    plan = planned(task, three_stages, "25%")
    console = quiet()
    train_to_folder(Run(task=task.spec, plan=plan, seed=0, threads=1, device="cpu", out=tmp_path), console)
    assert "timm opens this folder once the module that registers the model is imported, which is not in it (`my_models`)" in (
        tmp_path / MODEL / CARD
    ).read_text(encoding="utf-8")
    handed_over = timm.create_model(f"local-dir:{tmp_path / MODEL}", pretrained=True)
    assert same_weights(handed_over, timm.create_model(**task.model_arguments(), checkpoint_path=str(tmp_path / WEIGHTS)))
    from my_models import my_vit

    passed = check_model(lambda: my_vit(img_size=32, depth=2, num_classes=5), image_shape=(2, 3, 32, 32))
    assert passed == [check.__name__ for check in CHECKS]
