"""Several workers train the model that one would have trained, up to float error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from explorer import InvalidInput, Rates, Schedule, Stage
from explorer.training.augmentation import Augmentation
from explorer.training.data import DataSpec, open_data
from explorer.training.workers import Workers
from tests.conftest import TINY_SPACE, processes

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "explorer"]
ALONE = [sys.executable, "-m", "explorer"]


@pytest.fixture
def files(tmp_path) -> tuple[str, ...]:
    """Widths, depth and smaller images: nothing is drawn at random while training. SGD shows errors that AdamW hides."""
    space = yaml.safe_load(TINY_SPACE)
    space["staging"] = {"token_policy": "resize"}
    space["recipe"].update(optimizer="sgd", learning_rate=0.05, clip_grad=1.0, epochs=6, accumulation=2, ema_decay=0.9)
    space["search"].update(learning_rate=[0.01, 0.1])
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    stages = (
        Stage(rates=Rates(heads=0.5, mlp=0.5, tokens=0.5, depth=0.5), duration_ratio=0.4),
        Stage(rates=Rates(heads=0.5), duration_ratio=0.3),
        Stage(rates=Rates(), duration_ratio=0.3),
    )
    Schedule(stages=stages, grid=10).save(tmp_path / "schedule.json")
    return "train", "--schedule", str(tmp_path / "schedule.json"), "--space", str(tmp_path / "space.yaml"), "--budget", "50%"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "weights.safetensors")


def run(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, check=False, env=environment)


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=1e-3, atol=2e-5), (name, (tensor - other[name]).abs().max())


@pytest.mark.slow
def test_two_workers_of_torchrun_end_where_one_ends_also_after_a_stop(files, tmp_path):
    alone = run(ALONE, *files, "--out", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    together = run(TORCHRUN, *files, "--out", str(tmp_path / "together"))
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("cost:") == 1  # the first worker speaks
    assert_close(weights(tmp_path / "alone"), weights(tmp_path / "together"))
    result = yaml.safe_load((tmp_path / "together" / "result.json").read_text())
    assert result["workers"] == 2
    assert result["test_accuracy"] == yaml.safe_load((tmp_path / "alone" / "result.json").read_text())["test_accuracy"]

    stopped = tmp_path / "stopped"
    killed = subprocess.Popen([*TORCHRUN, *files, "--out", str(stopped), "--checkpoint-every", "0"])
    deadline = time.monotonic() + 100
    while not (stopped / "metrics.csv").exists() or len((stopped / "metrics.csv").read_text().splitlines()) < 4:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.02)
    for process in processes(str(stopped)):
        os.kill(process, signal.SIGKILL)
    killed.wait()
    again = run(TORCHRUN, *files, "--out", str(stopped))
    assert again.returncode == 0, again.stderr
    resumed = weights(stopped)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in weights(tmp_path / "together").items())

    refused = run(ALONE, *files, "--out", str(stopped))
    assert refused.returncode == 2
    assert "'workers': the checkpoint belongs to a run with another one" in refused.stderr


def test_shares_make_up_the_batch(image_folder):
    """In order and image by image, augmentation included."""
    folder = DataSpec(name="folder", root=str(image_folder), image_size=16)
    augmentation = Augmentation(transform={"re_prob": 0.5})
    for spec in (DataSpec(name="digits"), folder):
        data = open_data(spec)
        whole = list(data.train_batches(7, 2, 3, 8, augmentation, CPU))
        parts = [list(data.train_batches(7, 2, 3, 8, augmentation, CPU, Workers(rank, 2))) for rank in (0, 1)]
        for batch, *shares in zip(whole, *parts, strict=True):
            for of_all, of_each in zip(batch, zip(*shares, strict=True), strict=True):
                assert torch.equal(of_all, torch.cat(of_each))
        seen = [len(labels) for rank in (0, 1) for _, labels in data.evaluation_batches("test", CPU, Workers(rank, 2))]
        assert sum(seen) == sum(len(labels) for _, labels in data.evaluation_batches("test", CPU))


def test_a_batch_that_workers_cannot_share_is_refused():
    with pytest.raises(InvalidInput, match=r"recipe\.batch_size: 32: must be a multiple of the 3 workers"):
        Workers(0, 3).share(32)
