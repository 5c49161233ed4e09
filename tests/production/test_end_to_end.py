"""From a folder of images to production: sweep, best schedule, training in a fresh process, accuracy as predicted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from explorer import Budget, Schedule, SearchSpace, Sweep, compile_plan
from explorer.data.check import check_data
from explorer.production.result import RunResult
from explorer.production.run import WEIGHTS, Run, train_to_folder
from explorer.production.verdict import verdict
from explorer.report.page import write_report
from explorer.training.task import Task
from tests.conftest import quiet

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.filterwarnings("default")]
SPACE = """
name: folder
model:
  name: vit_tiny_patch16_224
  options: {patch_size: 4, embed_dim: 32, depth: 2, num_heads: 4}
data: {name: folder, root: ROOT, image_size: 8, unreadable: skip}
recipe:
  epochs: 16
  batch_size: 16
  learning_rate: 3.0e-3
  ema_decay: 0.9
  augmentation: {transform: {scale: [0.9, 1.0]}}
budgets: [50%]
search:
  trials: 2
  baseline_trials: 1
  repeat: 1
  repeat_seeds: 3
  stages: 2
  grid: 5
  rates: {heads: [0.5, 1], mlp: [0.5, 1], tokens: [0.5, 1]}
  learning_rate: [2.0e-3, 6.0e-3]
  batch_size: [16]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """Dark and bright grey images: brightness is normal with standard deviation 20 around 110 and 150.

    The best possible classifier has its threshold at 130 and classifies Phi(20 / 20) = 84 % of images correctly.
    """
    generator = np.random.default_rng(0)
    for split, count in (("train", 80), ("validation", 100)):
        for label, brightness in (("bright", 150), ("dark", 110)):
            place = tmp_path / "images" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = generator.normal(brightness, 20) + generator.normal(0, 5, (8, 8, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    (tmp_path / "images" / "train" / "bright" / "broken.png").write_bytes(b"\x89PNG\r\n")
    return tmp_path / "images"


def train_in_a_fresh_process(schedule: Path, tmp_path: Path) -> str:
    command = [sys.executable, "-m", "explorer", "train", "--schedule", str(schedule), "--task", "folder.yaml"]
    done = subprocess.run(
        [*command, "--budget", "50%", "--out", "same"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_production_reaches_the_accuracy_that_the_sweep_predicted(folder, tmp_path, local_ray):
    (tmp_path / "folder.yaml").write_text(SPACE.replace("ROOT", str(folder)))
    space = SearchSpace.load(tmp_path / "folder.yaml")
    sweep = Sweep(space, tmp_path / "sweeps", parallel_trials=1, console=quiet()).run()
    inventory = sweep.ledger.header().inventory
    assert inventory.train.images + inventory.validation.images == 2 * 80
    assert [name.rpartition("/")[2] for name in inventory.train.unreadable] == ["broken.png"]
    best = write_report(sweep.ledger, tmp_path / "report").schedules["50%"]
    schedule = Schedule.load(best)
    provenance = schedule.provenance
    assert provenance.seeds == 3
    low, high = provenance.expected_test
    assert 0.6 < provenance.mean_test < 0.92

    shown = train_in_a_fresh_process(best, tmp_path)
    assert "reproduced exactly" in shown
    result = RunResult.load(tmp_path / "same")
    assert result.test == provenance.test
    assert result.realised_flops == result.planned_flops
    plain = timm.create_model(**result.timm_create_model, checkpoint_path=str(tmp_path / "same" / WEIGHTS))
    weights = load_file(tmp_path / "same" / WEIGHTS)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in plain.state_dict().items())

    task = Task(space.with_data(check_data(space.task.data).spec).task.measured_as(provenance))
    compiled = compile_plan(schedule, task, Budget.parse("50%"), task.step_cost)
    run = Run(task=task.spec, plan=compiled, seed=77, threads=1, device="cpu", out=tmp_path / "fresh")
    fresh = train_to_folder(run, quiet())
    assert low <= fresh.test <= high
    assert any(line.endswith("inside") for line in verdict(schedule, task.spec, task.data.inventory, compiled, fresh))
