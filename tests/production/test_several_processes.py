"""Every trainer with two processes ends with the weights of one process, and its checkpoints hold the full model."""

import os
import subprocess
import sys

import pytest
import torch

from explorer.production.model_folder import ModelFolder
from tests.production.conftest import tiny_model
from tests.production.several_processes import TRAININGS, own_loop

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the trainers' own warnings
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder in which two processes did every training."""
    out = tmp_path_factory.mktemp("two")
    command = [*TORCHRUN, "-m", "tests.production.several_processes", str(out), *TRAININGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights of one process, and its checkpoint."""
    out = tmp_path_factory.mktemp("one")
    return own_loop(out).state_dict(), torch.load(out / "checkpoint.pt", weights_only=True)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_what_one_would(ended, alone, name):
    first, second, checkpoint = (torch.load(ended / name / f"{file}.pt", weights_only=True) for file in (0, 1, "checkpoint"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    for found, expected in ((first, alone[0]), (checkpoint, alone[1])):
        tiny_model().load_state_dict(found, strict=True)
        assert all(torch.allclose(found[key], expected[key], atol=1e-5) for key in expected)
    assert not torch.equal(checkpoint["head.weight"], first["head.weight"])


def test_two_processes_hand_over_one_folder(ended):
    """The main process alone writes and measures, in mid-stage too, where the other one trains on."""
    for name, weights in (("early", "checkpoint"), ("model", "0")):
        expected = torch.load(ended / "exporting" / f"{weights}.pt", weights_only=True)
        written = ModelFolder(ended / "exporting" / name).load_model().state_dict()
        assert all(torch.equal(written[key], expected[key]) for key in expected)
        text = (ended / "exporting" / name / "README.md").read_text()
        assert "| test | 8 | " in text
        assert ("ended early" in text) == (name == "early")
    assert not list((ended / "exporting").glob("*.tmp"))
