"""Finished trainings, started by the command line as users do."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from explorer import cli
from explorer.spec.provenance import Provenance
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.task import TaskSpec
from tests.conftest import TINY_MODEL, made_once

TAG = "<img src=x onerror=alert(1)>"
"""Name of a class, which is text and not a part of a page."""
SCHEDULE = Schedule(
    stages=(
        Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5), duration_ratio=0.5),
        Stage(rates=Rates(), duration_ratio=0.5),
    ),
    grid=4,
)


def measured_provenance(task: TaskSpec | dict, **changes) -> Provenance:
    """What a sweep measured with a schedule: three seeds, 48 % in the mean."""
    known = {
        "sweep": "s",
        "trial": "t",
        "budget": "50%",
        "model": TINY_MODEL["name"],
        "seed": 3,
        "learning_rate": 2e-3,
        "batch_size": 32,
        "validation": 0.5,
        "mean_test": 0.48,
        "seeds": 3,
        "expected_test": (0.4, 0.56),
        "task": task,
    }
    return Provenance(**{**known, **changes})


def finished_run(folder: Path, content: dict) -> None:
    """Train a task at half of its budget, into `run` in the folder; the task file is `task.yaml` beside it."""
    (folder / "task.yaml").write_text(yaml.safe_dump(content))
    schedule = SCHEDULE.save(folder / "schedule.json")
    words = ["explorer", "train", "--schedule", schedule, "--task", folder / "task.yaml", "--budget", "50%"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*map(str, words), "--out", str(folder / "run")])
        torch.set_num_threads(1)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    recipe = {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3, "lr_schedule": {"kind": "linear"}}
    content = {"model": TINY_MODEL, "data": {"name": "digits", "image_size": 8}, "recipe": recipe}
    return made_once(tmp_path_factory, "digits-run", lambda folder: finished_run(folder, content)) / "run"


@pytest.fixture(scope="session")
def folder_run(tmp_path_factory, image_folder):
    """Trained on image files of two classes, of which one has the name `TAG`; the images are in `images` beside the run."""
    pixels = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "crop_pct": 0.8}

    def train(folder):
        shutil.copytree(image_folder, folder / "images")
        for split in ("train", "validation"):
            (folder / "images" / split / "dark").rename(folder / "images" / split / TAG)
        content = {
            "model": {
                "name": "vit_tiny_patch16_224",
                "options": {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4},
            },
            "data": {"name": "folder", "root": str(folder / "images"), "image_size": 8, "preprocessing": pixels},
            "recipe": {"epochs": 12, "batch_size": 18, "learning_rate": 3e-3},
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            finished_run(folder, content)

    return made_once(tmp_path_factory, "folder-run", train) / "run"
